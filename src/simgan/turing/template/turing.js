"use strict";
// Two pages use this file: the beginning, and the test. The server alone knows what an image is.

const trouble = document.querySelector("#trouble");

async function post(path, fields) {
  const reply = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(fields),
  });
  return { status: reply.status, found: await reply.json() };
}

const form = document.querySelector("#start");
if (form) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = new FormData(form);
    try {
      const fields = { subject: chosen.get("subject"), comparison: chosen.get("comparison") };
      const { status, found } = await post("/start", fields);
      if (status === 200) location.assign(`/test/${found.session}`);
      else trouble.textContent = found.refused;
    } catch {
      trouble.textContent = "The server does not answer: start simgan turing again.";
    }
  });
}

if (document.body.dataset.session) {
  const { session, other, width, height } = document.body.dataset;
  const find = (selector) => document.querySelector(selector);
  const picture = find("#picture"), undo = find("#undo");
  const buttons = [...document.querySelectorAll(".answer")];
  let state = null; // where the server says that this session stands
  let seenAt = null; // when the image was first seen; null: not yet, or the subject was away since
  let busy = true;
  document.body.style.setProperty("--ratio", width / height);
  // Few pixels are hard to read when each fills a hand's breadth: ten times as large, or 320 px, is enough.
  const widest = Math.max(10 * width, 320);
  picture.style.maxWidth = `${widest}px`;
  picture.style.maxHeight = `${(widest * height) / width}px`;

  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const address = (name) => `/picture/${name}.png`;

  // Until the server answers: it may have been ended and started again, and no answer may be lost.
  async function insist(ask) {
    for (;;) {
      try {
        const reply = await ask();
        if (reply.status !== 507) {
          trouble.textContent = "";
          return reply;
        }
        trouble.textContent = reply.found.refused;
      } catch {
        trouble.textContent = "The server does not answer. Start simgan turing again: this page then goes on.";
      }
      await pause(1000);
    }
  }

  async function show() {
    const { done, total, trial, next, last } = state;
    find("#progress").value = done;
    find("#count").textContent = trial ? `${done + 1} of ${total}` : `${total} of ${total}`;
    find("#done").hidden = Boolean(trial);
    find("#buttons").hidden = picture.hidden = !trial;
    seenAt = null;
    if (trial) {
      picture.classList.add("waiting");
      await insist(async () => {
        picture.src = address(trial);
        await picture.decode();
        return { status: 200 };
      });
      picture.classList.remove("waiting");
      await new Promise((resolve) => requestAnimationFrame(resolve));
      if (!document.hidden) seenAt = performance.now();
      if (next) new Image().src = address(next);
    }
    busy = false;
    undo.disabled = !last;
    for (const button of buttons) button.disabled = false;
  }

  async function change(path, fields) {
    busy = undo.disabled = true;
    for (const button of buttons) button.disabled = true;
    const { status, found } = await insist(() => post(path, { session, ...fields }));
    // Refused, as after a lost reply: what was asked is done already, so ask where we stand.
    if (status === 200) state = found;
    else await refresh();
    await show();
  }

  async function refresh() {
    const reply = await insist(async () => {
      const got = await fetch(`/state/${session}`);
      return { status: got.status, found: await got.json() };
    });
    state = reply.found;
  }

  function answer(said) {
    if (busy || !state.trial) return;
    const sec = seenAt === null ? null : (performance.now() - seenAt) / 1000;
    change("/answer", { picture: state.trial, said, response_sec: sec });
  }

  function takeBack() {
    if (!busy && state.last) change("/undo", { picture: state.last });
  }

  for (const button of buttons) button.addEventListener("click", () => answer(button.dataset.said));
  undo.addEventListener("click", takeBack);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) seenAt = null; // a pause is no response time
  });
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") answer("real");
    else if (event.key === "ArrowRight") answer(other);
    else if (event.key === "u" || event.key === "U" || event.key === "Backspace") takeBack();
    else return;
    event.preventDefault();
  });

  refresh().then(show);
}
