// Reads a JSON list of calls on standard input, makes them one after the other, prints a JSON list of their answers.
// A call: {"client": "S3", "command": "PutObject", "input": {...}, "bodyBase64": "...", "sha256": true}
import * as logs from "@aws-sdk/client-cloudwatch-logs";
import * as dynamodb from "@aws-sdk/client-dynamodb";
import * as kinesis from "@aws-sdk/client-kinesis";
import * as lambda from "@aws-sdk/client-lambda";
import * as rdsData from "@aws-sdk/client-rds-data";
import * as s3 from "@aws-sdk/client-s3";
import * as secrets from "@aws-sdk/client-secrets-manager";
import * as sqs from "@aws-sdk/client-sqs";
import * as ssm from "@aws-sdk/client-ssm";
import * as sts from "@aws-sdk/client-sts";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { HttpsProxyAgent } from "https-proxy-agent";
import { readFileSync } from "node:fs";

const modules = {
  S3: s3, STS: sts, DynamoDB: dynamodb, CloudWatchLogs: logs, Kinesis: kinesis, Lambda: lambda, RDSData: rdsData,
  SecretsManager: secrets, SQS: sqs, SSM: ssm,
};
const env = process.env;
// The SDK does not look at HTTPS_PROXY; NODE_EXTRA_CA_CERTS is read by Node itself.
const agent = env.HTTPS_PROXY ? new HttpsProxyAgent(env.HTTPS_PROXY) : undefined;
const settings = {
  region: env.AWS_REGION,
  maxAttempts: Number(env.TEST_ATTEMPTS ?? env.AWS_MAX_ATTEMPTS ?? 1),
  requestHandler: new NodeHttpHandler({ httpsAgent: agent, requestTimeout: Number(env.TEST_TIMEOUT ?? 30_000), throwOnRequestTimeout: true, connectionTimeout: 10_000 }),
  ...(env.TEST_ENDPOINT ? { endpoint: env.TEST_ENDPOINT, forcePathStyle: true } : {}),
};
const clients = {};

// Bytes as base64, wherever they stand in an answer.
function plain(value) {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object" || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}

async function one({ client, command, input, bodyBase64 }) {
  const library = modules[client];
  clients[client] ??= new library[`${client}Client`](settings);
  const parameters = { ...input, ...(bodyBase64 === undefined ? {} : { Body: Buffer.from(bodyBase64, "base64") }) };
  try {
    const answer = await clients[client].send(new library[`${command}Command`](parameters));
    const { $metadata: metadata, Body: body, ...rest } = answer;
    const bytes = body ? Buffer.from(await body.transformToByteArray()).toString("base64") : undefined;
    return { ok: true, status: metadata.httpStatusCode, bodyBase64: bytes, ...plain(rest) };
  } catch (error) {
    const status = error.$metadata?.httpStatusCode;
    return { ok: false, status, name: error.name, code: error.Code ?? error.code, message: error.message };
  }
}

const answers = [];
for (const call of JSON.parse(readFileSync(0, "utf8"))) answers.push(await one(call));
process.stdout.write(JSON.stringify(answers), () => process.exit(0)); // a pipe takes large answers in pieces
