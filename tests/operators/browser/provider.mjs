// An OpenID Connect provider with a few people in it: node provider.mjs PORT REDIRECT_URI. Prints "listening" when it is.
import { Provider } from "oidc-provider";

const [port, redirect] = process.argv.slice(2);
const groups = { alice: ["developers", "sre"], bob: ["sre"], carol: ["sre"], dan: ["dba"] };
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: "flowwarden",
    application_type: "native",
    token_endpoint_auth_method: "none",
    redirect_uris: [redirect],
    response_types: ["code"],
    grant_types: ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"],
  }],
  claims: { openid: ["sub", "groups"], profile: ["name"], email: ["email"] },
  conformIdTokenClaims: false,
  features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true } },
  pkce: { required: () => true },
  ttl: { IdToken: 3600, AccessToken: 3600, Session: 3600, Interaction: 600, Grant: 3600, DeviceCode: 600 },
  async findAccount(ctx, id) {
    return { accountId: id, claims: async () => ({ sub: id, groups: groups[id] ?? [], name: id, email: `${id}@example.com` }) };
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
