// Drives the approvals page in Chromium: node page.mjs, with a plan as JSON on the first line of standard input.
// Says what it needs and what it saw as JSON lines on standard output; a line on standard input lets it go on.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const plan = JSON.parse((await lines.next()).value);
const say = (what) => console.log(JSON.stringify(what));
const ask = async (what, id) => { say({ need: what, id }); return JSON.parse((await lines.next()).value); };
const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
const browser = await chromium.launch({ executablePath: plan.chromium, args: ["--no-sandbox"] });
const complaints = [];

async function signIn(name, path, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error" && page.url().startsWith(plan.base) && !/status of 4\d\d/.test(message.text())) complaints.push(`${name}: ${message.text()}`); });
  page.on("pageerror", (error) => complaints.push(`${name}: ${error.message}`));
  page.on("dialog", (dialog) => { complaints.push(`${name}: a dialog`); dialog.dismiss(); });
  await context.route((url) => !url.href.startsWith(plan.base) && !url.href.startsWith(plan.issuer) && url.protocol !== "data:", (route) => {
    if (route.request().frame().url().startsWith(plan.base)) complaints.push(`${name}: asked ${route.request().url()}`);
    return route.abort(); // the provider's own pages like web fonts
  });
  await page.goto(plan.base + path);
  await page.fill("input[name=login]", name);
  await page.fill("input[name=password]", "any");
  await page.click("button[type=submit]");
  await page.click("button[type=submit]");
  await page.waitForSelector("#who:not(:empty)");
  return { context, page };
}
const shot = (page, name) => page.screenshot({ path: `${plan.shots}/${name}.png` });

try {
  // a person on a phone, from the link of a notification
  const first = await ask("question");
  const { context: phoneContext, page: bob } = await signIn("bob", `/approvals/${first.id}`, phone);
  await bob.waitForSelector("article h2");
  say({
    saw: "detail",
    url: bob.url(),
    title: await bob.textContent("article h2"),
    body: await bob.textContent("article pre"),
    text: await bob.textContent("article"),
    markup: await bob.locator("article pre *").count() + await bob.locator("article img").count(),
    wider: await bob.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth),
    small: await bob.evaluate(() => [...document.querySelectorAll("button")].filter((b) => b.offsetParent && b.getBoundingClientRect().height < 44).length),
  });
  await shot(bob, "phone-detail");
  await bob.fill("#reason", "checked the dashboard");
  await bob.tap("button.go");
  await bob.waitForFunction(() => document.querySelector(".state").textContent.includes("approved"));
  await shot(bob, "phone-approved");
  say({ saw: "approved", state: (await ask("state", first.id)).state });

  // live: a question that comes while the list is open
  await bob.tap("#back");
  await bob.waitForSelector("#live.on");
  const second = await ask("question");
  await bob.waitForSelector(`a[href="/approvals/${second.id}"]`, { timeout: 5000 });
  await shot(bob, "phone-list");
  say({ saw: "live", title: await bob.title() });

  // another person at a desk denies it, and the phone sees that without being touched
  const { page: carol } = await signIn("carol", "/approvals", { viewport: { width: 1280, height: 800 } });
  await carol.click(`a[href="/approvals/${second.id}"]`);
  await carol.fill("#reason", "not on a Friday");
  await shot(carol, "desk-detail");
  await carol.click("button.stop");
  await carol.waitForFunction(() => document.querySelector(".state").textContent.includes("denied"));
  await bob.waitForSelector(`a[href="/approvals/${second.id}"]`, { state: "detached", timeout: 5000 });
  say({ saw: "denied", shown: await carol.textContent(".state") });

  // who asked cannot answer, and is told why
  const third = await ask("question");
  const { page: alice } = await signIn("alice", `/approvals/${third.id}`, { viewport: { width: 1280, height: 800 }, colorScheme: "dark" });
  await alice.waitForSelector("article .why");
  await shot(alice, "desk-requester");
  say({ saw: "requester", buttons: await alice.locator("article .choices button").count(), why: await alice.textContent("article .why:last-child") });

  // a question that waits for the agent's reason: shown as such, and ready as soon as it has been given
  const unsaid = await ask("question without its reason");
  await bob.waitForSelector(`a[href="/approvals/${unsaid.id}"]`, { timeout: 5000 });
  const listed = await bob.textContent(`a[href="/approvals/${unsaid.id}"]`);
  await bob.tap(`a[href="/approvals/${unsaid.id}"]`);
  await bob.waitForSelector("button.go");
  const closed = await bob.locator("button.go").isDisabled(), denies = await bob.locator("button.stop").isDisabled();
  await shot(bob, "phone-unsaid");
  await ask("reason");
  await bob.waitForSelector("button.go:enabled", { timeout: 5000 });
  await shot(bob, "phone-said");
  say({ saw: "unsaid", listed, closed, denies, text: await bob.textContent("article") });
  await bob.tap("#back");

  // forged from another origin, with the person's cookies; and from the page's own origin without its token
  const stranger = await phoneContext.newPage();
  await stranger.goto(plan.issuer + "/.well-known/openid-configuration");
  await stranger.evaluate(([url]) => fetch(url, { method: "POST", mode: "no-cors", credentials: "include", headers: { "Content-Type": "text/plain" }, body: '{"approve": true}' }).catch(() => null), [`${plan.base}/approvals/${third.id}/answer`]);
  await stranger.setContent(`<form method="post" enctype="text/plain" action="${plan.base}/approvals/${third.id}/answer"><input name='{"approve": true, "reason": "' value='"}'></form>`);
  await Promise.all([stranger.waitForLoadState(), stranger.evaluate(() => document.forms[0].submit())]);
  const bare = await bob.evaluate(([path]) => fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"approve": true}' }).then((a) => a.status), [`/approvals/${third.id}/answer`]);
  const framed = await phoneContext.newPage();
  await framed.goto(plan.issuer + "/.well-known/openid-configuration");
  await framed.setContent(`<iframe src="${plan.base}/approvals"></iframe>`);
  await framed.waitForTimeout(300);
  const inside = framed.frames()[1] ? await framed.frames()[1].locator("#questions").count().catch(() => 0) : 0;
  say({ saw: "forged", bare, inside, state: (await ask("state", third.id)).state });

  // signing out
  await alice.click("#leave");
  await alice.waitForSelector("text=signed out");
  say({ saw: "signed out", status: await alice.evaluate(() => fetch("/whoami").then((a) => a.status)) });
  say({ saw: "end", complaints });
} catch (error) {
  say({ failed: String(error.stack || error), complaints });
} finally {
  await browser.close();
  process.exit(0);
}
