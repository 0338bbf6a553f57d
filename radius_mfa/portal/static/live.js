// The live log: rows come by server-sent events. Without this the page shows what was there.
"use strict";

const MOST_ROWS = 300;

const rows = document.getElementById("events");
const pause = document.getElementById("pause");
const state = document.getElementById("live-state");
const stream = new EventSource(rows.dataset.stream);
let waiting = [];
let paused = false;

const say = (text) => { if (state.textContent !== text) state.textContent = text; };

// The server has rendered the row: what users typed is escaped in it.
const show = (html) => {
  rows.insertAdjacentHTML("afterbegin", html);
  while (rows.rows.length > MOST_ROWS) rows.deleteRow(-1);
};

stream.addEventListener("open", () => { if (!paused) say(rows.dataset.live); });
stream.addEventListener("error", () => {
  if (stream.readyState === EventSource.CLOSED) say(rows.dataset.over);
});
stream.addEventListener("message", (event) => {
  const html = JSON.parse(event.data);
  if (!paused) return show(html);
  waiting.push(html);
  if (waiting.length > MOST_ROWS) waiting.shift();
  say(rows.dataset.paused.replace("{n}", waiting.length));
});

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", paused);
  waiting.forEach(show);
  waiting = [];
  say(paused ? rows.dataset.paused.replace("{n}", 0) : rows.dataset.live);
});
