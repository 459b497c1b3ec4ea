// The approvals page. Everything an agent wrote reaches the page as text, never as markup.
"use strict";

const page = { csrf: "", filter: "open", chosen: "", known: new Map(), drafts: new Map(), busy: false };
const byId = (id) => document.getElementById(id);

// An agent may name things so that they read as something else: what steers the direction of text, or is not seen, shows.
function visible(text) {
  return String(text).replace(/[^\P{C}\n\t]/gu, "\uFFFD");
}

function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = visible(text);
  if (className) node.className = className;
  return node;
}

async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = page.csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" });
  const told = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    location.assign("/login?next=" + encodeURIComponent(location.pathname));
    throw new Error("signing in again");
  }
  if (!answer.ok) throw new Error(told.error ? told.error.message : "status " + answer.status);
  return told;
}

function left(question) {
  const seconds = Math.round((Date.parse(question.expires) - Date.now()) / 1000);
  if (question.state !== "open") return question.state;
  if (question.wants_purpose) return "waiting for its reason";
  if (seconds <= 0) return "expired";
  return seconds < 90 ? seconds + " s left" : Math.round(seconds / 60) + " min left";
}

function person(who) {
  return (who.name && who.name !== who.subject ? who.name + " (" + who.subject + ")" : who.subject) || "";
}

function title(question) {
  const summary = question.summary;
  return summary.operation && summary.operation !== "None" ? summary.operation : (summary.method || "") + " " + (summary.host || "");
}

function about(question) {
  const resources = question.summary.resources || [];
  const first = resources[0] || question.summary.path || "";
  return first + (resources.length > 1 ? " and " + (resources.length - 1) + " more" : "");
}

function drawList() {
  const shown = [...page.known.values()].filter((q) => !page.filter || q.state === page.filter);
  shown.sort((a, b) => (a.asked < b.asked ? 1 : -1));
  byId("questions").replaceChildren(...shown.map((question) => {
    const link = make("a", undefined, question.state);
    link.href = "/approvals/" + encodeURIComponent(question.id);
    link.dataset.id = question.id;
    if (question.id === page.chosen) link.setAttribute("aria-current", "true");
    link.append(make("strong", title(question)), make("span", about(question)), make("span", person(question.principal) + " · " + left(question)));
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      choose(question.id, true);
    });
    const item = make("li");
    item.append(link);
    return item;
  }));
  byId("empty").hidden = shown.length > 0;
  const waiting = [...page.known.values()].filter((q) => q.state === "open" && q.may_answer).length;
  document.title = (waiting ? "(" + waiting + ") " : "") + "Approvals · Flowwarden";
}

// Only texts change here: a list drawn anew under a finger or a focus would lose the tap.
function tick() {
  for (const link of document.querySelectorAll("#questions a")) {
    const question = page.known.get(link.dataset.id);
    if (question) link.lastElementChild.textContent = visible(person(question.principal) + " · " + left(question));
  }
  const question = page.known.get(page.chosen), state = document.querySelector(".state");
  if (question && state) state.textContent = visible(stateLine(question));
}

function stateLine(question) {
  return question.id + " · " + left(question) + (question.reason ? " · " + question.reason : "");
}

function table(rows) {
  const made = make("table");
  for (const [name, value] of rows) {
    if (value === undefined || value === null || value === "" || (Array.isArray(value) && !value.length)) continue;
    const row = make("tr");
    const head = make("th", name);
    head.scope = "row";
    const text = Array.isArray(value) ? value.map((v) => (v === null ? "(not known)" : String(v))).join("\n") : typeof value === "object" ? JSON.stringify(value, null, 2) : String(value);
    row.append(head, make("td", text));
    made.append(row);
  }
  return made;
}

function pretty(body) {
  try { return JSON.stringify(JSON.parse(body), null, 2); } catch { return body; }
}

function parameters(summary) {
  if (summary.params && typeof summary.params === "object") return Object.entries(summary.params);
  return [];
}

function drawDetail() {
  const question = page.known.get(page.chosen);
  const detail = byId("detail");
  detail.hidden = !question;
  document.body.classList.toggle("one", Boolean(page.chosen));
  if (!question) return;
  const summary = question.summary, terms = question.terms;
  const back = make("button", "← All questions");
  back.type = "button";
  back.id = "back";
  back.addEventListener("click", () => choose("", true));
  const parts = [back, make("h2", title(question)), make("p", stateLine(question), "state")];
  if (summary.irreversible) parts.push(make("p", summary.irreversible, "wrong"));
  if (summary.reason) parts.push(make("p", summary.reason, "why"));
  parts.push(make("h3", "Who asks"), table([["Principal", person(question.principal)], ["Agent", question.principal.agent], ["Acts for", question.principal.owner], ["Groups", (question.principal.groups || []).join(", ")], ["Issuer", question.principal.issuer], ["Session", question.session], ["Reason given", question.purpose]]));
  parts.push(make("h3", "For what"), table([["Actions", summary.actions], ["Resources", summary.resources], ["Account", summary.account], ["Region", summary.region], ["Rule", summary.rules], ["Request", (summary.method || "") + " " + (summary.host || "") + (summary.path || "")]]));
  const params = parameters(summary);
  if (params.length) parts.push(make("h3", "Parameters"), table(params));
  if (summary.body_sha256) parts.push(make("h3", "Body"), table([["Bytes", summary.body_bytes], ["SHA-256", summary.body_sha256]]));
  if (summary.body) parts.push(make("h3", "Body"), make("pre", pretty(summary.body)));
  const covers = { request: "this one request, once", operation: "this operation on these resources, until its time is over", session: "everything this rule names, in this session, for " + Math.round((terms.lasts || 0) / 60) + " min" };
  parts.push(make("h3", "An approval covers"), table([["Scope", covers[terms.scope]], ["Needs", terms.count > 1 ? terms.count + " different people" : "one person"], ["Open until", new Date(question.expires).toLocaleString()], ["Granted until", question.until ? new Date(question.until).toLocaleString() : ""], ["Digest", question.digest]]));
  if (question.answers.length) parts.push(make("h3", "Answers so far"), table(question.answers.map((a) => [a.name || a.subject, (a.approve ? "approved" : "denied") + (a.reason ? ": " + a.reason : "")])));
  parts.push(question.state === "open" ? answerForm(question) : question.state === "approved" && question.may_answer ? revokeForm(question) : make("span"));
  const typing = document.activeElement && document.activeElement.id === "reason";
  detail.replaceChildren(...parts);
  if (typing && byId("reason")) byId("reason").focus();
}

function answerForm(question) {
  if (!question.may_answer) return make("p", question.why_not || "You cannot answer this.", "why");
  const form = make("form");
  if (question.wants_purpose) form.append(make("p", "Waiting for its reason: the agent has not said yet why it makes this call.", "why"));
  const label = make("label", question.terms.reason_required ? "Reason (needed)" : "Reason");
  label.htmlFor = "reason";
  const reason = make("textarea");
  reason.id = "reason";
  reason.maxLength = 2000;
  reason.value = page.drafts.get(question.id) || "";
  reason.addEventListener("input", () => page.drafts.set(question.id, reason.value));
  const wrong = make("p", "", "wrong");
  wrong.id = "wrong";
  wrong.hidden = true;
  const choices = make("div", undefined, "choices");
  for (const [text, className, approve] of [["Approve", "go", true], ["Deny", "stop", false]]) {
    const button = make("button", text, className);
    button.type = "button";
    button.disabled = page.busy || (approve && question.wants_purpose);
    button.addEventListener("click", () => send(question, { approve, reason: reason.value }, "answer"));
    choices.append(button);
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.append(label, reason, wrong, choices);
  return form;
}

function revokeForm(question) {
  const form = make("form");
  const wrong = make("p", "", "wrong");
  wrong.id = "wrong";
  wrong.hidden = true;
  const choices = make("div", undefined, "choices");
  const button = make("button", "Take the approval back", "stop");
  button.type = "button";
  button.addEventListener("click", () => send(question, { reason: "" }, "revoke"));
  choices.append(button);
  form.append(wrong, choices);
  return form;
}

async function send(question, body, what) {
  if (page.busy) return;
  page.busy = true;
  try {
    keep(await call("POST", "/approvals/" + encodeURIComponent(question.id) + "/" + what, body));
    page.drafts.delete(question.id);
    page.busy = false;
    draw();
    window.scrollTo(0, 0);
  } catch (error) {
    page.busy = false;
    const wrong = byId("wrong");
    if (!wrong) return;
    wrong.textContent = error.message;
    wrong.hidden = false;
    wrong.scrollIntoView({ block: "center" }); // on a phone the buttons stay in sight while this may not
  }
}

// Lists and events tell a question in brief; what the whole one said before still holds.
function keep(question) {
  const before = page.known.get(question.id);
  page.known.set(question.id, before ? { ...question, summary: { ...before.summary, ...question.summary } } : question);
}
function draw() { drawList(); drawDetail(); }

async function choose(id, push) {
  page.chosen = id;
  if (push) history.pushState(null, "", id ? "/approvals/" + encodeURIComponent(id) : "/approvals");
  draw();
  if (!id) return;
  try {
    keep(await call("GET", "/approvals/" + encodeURIComponent(id)));
    draw();
  } catch (error) {
    if (!page.known.has(id)) { byId("detail").hidden = false; byId("detail").replaceChildren(make("p", error.message, "wrong")); }
  }
}

async function look() {
  // the newest of all, and every open one however old
  const told = await Promise.all([call("GET", "/approvals"), call("GET", "/approvals?state=open")]);
  told.forEach((part) => part.approvals.forEach(keep));
  draw();
}

function live(on) {
  byId("live").textContent = on ? "live" : "not connected, trying again";
  byId("live").className = on ? "on" : "off";
}

function watch() {
  const source = new EventSource("/approvals/events");
  source.addEventListener("message", (message) => {
    const told = JSON.parse(message.data);
    live(true);
    if (told.event === "hello") { look().catch(() => live(false)); return; }
    keep(told.approval);
    drawList();
    if (told.approval.id === page.chosen) drawDetail();
  });
  source.addEventListener("error", () => {
    live(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { call("GET", "/whoami").then(watch, () => setTimeout(watch, 5000)); }, 2000);
  });
}

function place() { return decodeURIComponent(location.pathname.replace(/^\/approvals\/?/, "")); }

async function start() {
  for (const button of document.querySelectorAll("#filters button")) {
    button.addEventListener("click", () => {
      page.filter = button.dataset.filter;
      for (const other of document.querySelectorAll("#filters button")) other.setAttribute("aria-pressed", String(other === button));
      drawList();
    });
  }
  byId("leave").addEventListener("click", async () => { await call("POST", "/logout"); document.body.replaceChildren(make("p", "You are signed out.")); });
  window.addEventListener("popstate", () => choose(place(), false));
  const me = await call("GET", "/whoami");
  page.csrf = me.csrf || "";
  byId("who").textContent = person(me.principal);
  await look();
  await choose(place(), false);
  watch();
  setInterval(tick, 1000);
}

start().catch((error) => { byId("live").textContent = error.message; });
