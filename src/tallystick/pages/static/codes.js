// Tallystick: QR codes that take turns on the screen, and a camera that reads them. The pages work without this file.
// What it says stands in the page, in the reader's language: data-say-* of the element; braces are filled in.

const SCAN_MILLISECONDS = 60;
const SCAN_PIXELS = 1000; // the longer side of what is looked at

// Showing: one code at a time, in turns.
for (const part of document.querySelectorAll("[data-codes]")) {
  const codes = Array.from(part.querySelectorAll(".frames > li"));
  const player = part.querySelector("[data-player]");
  if (codes.length < 2) continue;
  const pause = player.querySelector("[data-pause]");
  const all = player.querySelector("[data-all]");
  const speed = player.querySelector("[data-speed]");
  let place = 0;
  let timer = null;
  const turn = (steps) => {
    codes[place].classList.remove("now");
    place = (place + steps + codes.length) % codes.length;
    codes[place].classList.add("now");
  };
  const stop = () => { clearInterval(timer); timer = null; pause.textContent = pause.dataset.sayRun; };
  const run = () => {
    clearInterval(timer);
    timer = setInterval(() => turn(1), 1000 / Number(speed.value));
    pause.textContent = pause.dataset.sayPause;
  };
  player.hidden = false;
  part.classList.add("playing");
  turn(0);
  run();
  part.scrollIntoView(); // the whole code is on the screen
  pause.addEventListener("click", () => (timer === null ? run() : stop()));
  speed.addEventListener("change", run);
  player.querySelector("[data-back]").addEventListener("click", () => { stop(); turn(-1); });
  player.querySelector("[data-next]").addEventListener("click", () => { stop(); turn(1); });
  all.addEventListener("click", () => {
    const one = part.classList.toggle("playing");
    all.textContent = one ? all.dataset.sayAll : all.dataset.sayTurns;
    if (one) run(); else stop();
  });
}

// Reading: whatever the camera sees goes to our own page, which keeps it and says what is missing.
for (const part of document.querySelectorAll("[data-reader]")) {
  const start = part.querySelector("[data-start]");
  const stop = part.querySelector("[data-stop]");
  const video = part.querySelector("[data-video]");
  const said = part.querySelector("[data-said]");
  const say = (name, value = "") => {
    const text = said.dataset[name].replace(/\{\w+\}/, () => value);
    if (said.textContent !== text) said.textContent = text;
  };
  if (!navigator.mediaDevices || !navigator.mediaDevices.getUserMedia) continue; // no https: the page says so
  part.querySelector("[data-camera]").hidden = false;
  say("sayStart");

  let stream = null;
  let sending = false;
  const seen = new Set();
  let waiting = [];
  const end = () => {
    if (stream) for (const track of stream.getTracks()) track.stop();
    stream = null;
    video.hidden = true;
    stop.hidden = true;
    start.hidden = false;
  };
  const send = async () => {
    if (sending || !waiting.length) return;
    sending = true;
    const sent = waiting;
    waiting = [];
    const form = new FormData();
    form.append("csrf", part.querySelector("input[name=csrf]").value);
    form.append("codes", sent.join("\n"));
    try {
      const response = await fetch(part.dataset.reader, { method: "POST", body: form });
      if (response.redirected) { end(); location.assign(response.url); return; }
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.getElementById("read");
      if (!fresh) { // a problem: its page says what and why
        end();
        const problem = page.querySelector("main");
        say("sayRefused", problem ? problem.innerText.trim() : response.status);
        return;
      }
      document.getElementById("read").replaceChildren(...fresh.childNodes);
      const missing = Array.from(part.querySelectorAll("[data-missing]"), (one) => one.textContent);
      if (missing.length) say("sayMissing", missing.join("; ")); else say("sayRead");
    } catch {
      waiting = sent.concat(waiting); // sent again with the next
      say("sayAgain");
    } finally {
      sending = false;
    }
  };
  const look = (decode, canvas, context) => {
    if (!stream) return;
    const scale = Math.min(1, SCAN_PIXELS / Math.max(video.videoWidth, video.videoHeight, 1));
    const width = Math.round(video.videoWidth * scale);
    const height = Math.round(video.videoHeight * scale);
    if (width && height) {
      if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
      context.drawImage(video, 0, 0, width, height);
      try {
        const text = decode(context.getImageData(0, 0, width, height));
        if (text.startsWith("T") && !seen.has(text)) { seen.add(text); waiting.push(text); }
        else if (!text.startsWith("T")) say("sayOther");
      } catch { /* no code in this picture */ }
    }
    send();
    setTimeout(look, SCAN_MILLISECONDS, decode, canvas, context);
  };
  start.addEventListener("click", async () => {
    start.hidden = true;
    try {
      const { decodeQR } = await import(part.dataset.decoder);
      stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { facingMode: "environment", width: { ideal: 1280 } } });
      seen.clear();
      video.srcObject = stream;
      video.hidden = false;
      stop.hidden = false;
      await video.play();
      const canvas = document.createElement("canvas");
      say("sayLooking");
      look(decodeQR, canvas, canvas.getContext("2d", { willReadFrequently: true }));
    } catch (error) {
      end();
      say("sayCamera", error.name);
    }
  });
  stop.addEventListener("click", () => { end(); say("sayOff"); });
  addEventListener("pagehide", end);
}
