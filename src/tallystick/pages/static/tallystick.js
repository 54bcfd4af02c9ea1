// Tallystick: what makes pages better and is never needed. Every form works without it. What it says stands in the page,
// in the reader's language: data-say-* of the element; braces are filled in.
"use strict";

(() => {
  const filled = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));

  // The upload box: files can be dropped on it, and a long upload shows how far it is.
  for (const form of document.querySelectorAll("form[data-upload]")) {
    const drop = form.querySelector(".drop");
    const input = form.querySelector("input[type=file]");
    const status = form.querySelector("[data-status]");
    if (!drop || !input || !status) continue;
    const say = (text) => { status.textContent = text; };

    for (const kind of ["dragenter", "dragover"]) {
      drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
    }
    for (const kind of ["dragleave", "drop"]) {
      drop.addEventListener(kind, () => drop.classList.remove("over"));
    }
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      if (!event.dataTransfer || !event.dataTransfer.files.length) return;
      input.files = event.dataTransfer.files;
      input.dispatchEvent(new Event("change"));
    });
    input.addEventListener("change", () => {
      const files = Array.from(input.files);
      const bytes = files.reduce((sum, file) => sum + file.size, 0);
      say(files.length ? filled(status.dataset.sayReady, { files: files.length, kib: Math.ceil(bytes / 1024) }) : "");
    });
    form.addEventListener("submit", () => say(status.dataset.saySending));
  }

  // Pages that watch something: fetched again while they are looked at.
  for (const part of document.querySelectorAll("[data-live]")) {
    const seconds = Number(part.dataset.live) || 10;
    const timer = setInterval(async () => {
      if (document.hidden || part.contains(document.activeElement)) return;
      try {
        const response = await fetch(location.href, { headers: { "Tallystick-Live": "1" } });
        if (!response.ok || response.redirected) return;
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const fresh = page.getElementById(part.id);
        if (fresh && !fresh.dataset.live) { // it has ended
          clearInterval(timer);
          if (part.dataset.quiet === undefined) { location.reload(); return; }
        }
        if (fresh && fresh.innerHTML !== part.innerHTML) part.replaceChildren(...fresh.childNodes);
      } catch { /* the next try may go better */ }
    }, seconds * 1000);
  }

  // One box ticks all boxes of a list.
  for (const all of document.querySelectorAll("[data-tick-all]")) {
    const boxes = () => all.form.querySelectorAll(`input[type=checkbox][name="${all.dataset.tickAll}"]:not(:disabled)`);
    all.hidden = false;
    if (all.closest("label")) all.closest("label").hidden = false;
    all.addEventListener("change", () => { for (const box of boxes()) box.checked = all.checked; });
  }
})();
