// The approvals page works without this script. It refreshes what waits, and adds keys.
"use strict";

const EVERY = 3000;
let etag = "";

// Times are in UTC without this script, and as a tooltip with it.
const LOCAL = { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };
const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
function localize(root) {
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    const seconds = at.getSeconds() ? { second: "2-digit" } : {};
    const local = at.toLocaleString("en-GB", { ...LOCAL, ...seconds });
    if (time.textContent === time.title) time.textContent = local;
    else if ("clock" in time.dataset) {
      const day = at.toDateString() === new Date().toDateString() ? {} : { day: "numeric", month: "short" };
      time.textContent = at.toLocaleString("en-GB", { ...day, ...CLOCK });
    }
    time.title = `${local}, ${time.title}`;
  }
}

// The parts of the page that change by themselves. A document parsed by the browser never runs the scripts in it.
function refresh() {
  const live = [...document.querySelectorAll("[data-live]")];
  if (!live.length || document.visibilityState !== "visible") return;
  const request = new XMLHttpRequest();
  request.open("GET", location.pathname + location.search);
  request.responseType = "document";
  request.setRequestHeader("If-None-Match", etag || '"new"');
  request.onload = () => {
    if (request.status !== 200 || !request.response) return;
    const next = [...request.response.querySelectorAll("[data-live]")];
    next.forEach(localize);
    const first = !etag;
    etag = request.getResponseHeader("ETag") || "";
    live.forEach((part, index) => {
      if (!next[index] || (first && next[index].textContent === part.textContent)) return;
      if (!part.contains(document.activeElement?.closest("select, input"))) show(part, next[index], request.response.title);
    });
  };
  request.send();
}

function show(live, next, title) {
  const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
  const was = live.querySelector("[data-status]")?.dataset.status;
  const now = next.querySelector("[data-status]")?.dataset.status;
  live.replaceChildren(...[...next.childNodes].map((node) => document.adoptNode(node)));
  document.title = title;
  if (focused) document.getElementById(focused)?.focus();
  if (was === "pending" && now !== was) decided();
}

// Another person has decided it: the form would only be refused.
function decided() {
  const form = document.getElementById("decide");
  if (!form) return;
  const note = document.createElement("p");
  note.className = "note stale";
  note.setAttribute("role", "alert");
  note.textContent = "It has just been decided. Your decision would change nothing.";
  form.prepend(note);
  for (const button of form.querySelectorAll("button")) button.disabled = true;
}

function move(by) {
  const cards = Array.from(document.querySelectorAll(".card"));
  if (!cards.length) return;
  const at = cards.indexOf(document.activeElement);
  cards[Math.min(Math.max(at + by, 0), cards.length - 1)].focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "u" || event.key === "i") location.assign("/");
  else if (event.key === "d") document.querySelector("#decide input:not([type=hidden]), #decide textarea, #decide button")?.focus();
  else return;
  event.preventDefault();
});

// A passkey signs exactly what the form says: the challenge is the digest of the decision.
async function sign(form) {
  const answer = await fetch(form.dataset.sign, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  const asked = await answer.json().catch(() => ({ problem: "Your session may have ended. Load the page again." }));
  if (asked.problem) throw new Error(asked.problem);
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(asked.options);
  const { id, response } = (await navigator.credentials.get({ publicKey })).toJSON();
  fill(form, "proof", {
    credential_id: id,
    authenticator_data: response.authenticatorData,
    client_data: response.clientDataJSON,
    signature: response.signature,
    issued_at: asked.issued_at,
    expires_at: asked.expires_at,
  });
}

async function signIn(form) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(JSON.parse(form.dataset.signIn));
  fill(form, "credential", (await navigator.credentials.get({ publicKey })).toJSON());
}

async function enrol(form) {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(JSON.parse(form.dataset.options));
  fill(form, "credential", (await navigator.credentials.create({ publicKey })).toJSON());
}

function fill(form, name, value) {
  const field = form.querySelector(`input[name=${name}]`) || form.appendChild(document.createElement("input"));
  Object.assign(field, { type: "hidden", name, value: JSON.stringify(value) });
}

function complain(form, text) {
  const note = form.querySelector("[role=alert]") || form.appendChild(document.createElement("p"));
  note.className = "note bad";
  note.setAttribute("role", "alert");
  note.textContent = text;
}

// A form that is sent twice would be a second decision.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "1";
  const first = form.dataset.sign ? sign : form.dataset.signIn ? signIn : form.dataset.options ? enrol : null;
  if (!first) return;
  event.preventDefault();
  first(form).then(
    () => form.submit(),
    (error) => {
      delete form.dataset.sent;
      complain(form, error.name === "NotAllowedError" ? "The passkey was not used, so nothing was sent." : error.message);
    },
  );
});
window.addEventListener("pageshow", () => document.querySelectorAll("form").forEach((form) => delete form.dataset.sent));
for (const select of document.querySelectorAll(".filters select")) select.addEventListener("change", () => select.form.requestSubmit());

localize(document);
if (document.querySelector("[data-stale]")) refresh();
setInterval(refresh, EVERY);
document.addEventListener("visibilitychange", refresh);
