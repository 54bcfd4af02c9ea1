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
    const looked = form.querySelector("[data-looked]");
    if (looked && form.dataset.look) {
      input.addEventListener("change", async () => {
        looked.replaceChildren();
        if (!input.files.length) return;
        try {
          const response = await fetch(form.dataset.look, { method: "POST", body: new FormData(form) });
          if (!response.ok) return;
          const page = new DOMParser().parseFromString(await response.text(), "text/html");
          looked.replaceChildren(...page.body.childNodes);
        } catch { /* it is shown after it was sent, too */ }
      });
    }
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

  // A page that is left open asks whether anything is another than it shows; an answer without anything new is empty.
  // Rows are replaced where they stand: ticks stay, and what changed since the page was opened has a quiet mark.
  const watch = document.querySelector("[data-watch]");
  if (watch) {
    const changed = new Map();
    let isWhole = true; // false: something has the focus and was left as it is; the next answer brings it again
    const say = (rows) => {
      const status = document.getElementById("changed");
      if (status && changed.size) {
        const names = [...changed.values()].join(", ");
        status.textContent = filled(status.dataset.say, { names });
      }
      for (const row of rows.querySelectorAll("tr.changed")) {
        if (!row.querySelector(".mark")) {
          const mark = document.createElement("span");
          mark.className = "mark small quiet";
          mark.textContent = rows.dataset.sayRow;
          row.querySelector("th").append(mark);
        }
      }
    };
    const bare = (row) => {
      const copy = row.cloneNode(true);
      for (const one of copy.querySelectorAll(".mark, td.tick")) one.remove();
      return copy.innerHTML;
    };
    const note = (row) => {
      row.classList.add("changed");
      changed.set(row.id, row.querySelector("th a, th").firstChild.textContent.trim());
    };
    const mergeRows = (old, fresh) => {
      const isPartial = fresh.dataset.partial !== undefined;
      const ids = (rows) => Array.from(rows.children, (row) => row.id).join();
      if (!isPartial && ids(old) !== ids(fresh)) { // others are there, or in another order: all anew, with their ticks
        const ticked = new Set(Array.from(old.querySelectorAll("td.tick input:checked"), (box) => box.value));
        const before = new Map(Array.from(old.querySelectorAll("tr[id]"), (row) => [row.id, bare(row)]));
        old.replaceChildren(...fresh.childNodes);
        for (const box of old.querySelectorAll("td.tick input")) box.checked = ticked.has(box.value);
        for (const row of old.querySelectorAll("tr[id]")) if (before.get(row.id) !== bare(row) || changed.has(row.id)) note(row);
      } else {
        for (const row of fresh.querySelectorAll("tr[id]")) {
          const there = document.getElementById(row.id);
          if (!there || bare(there) === bare(row)) continue;
          const isHeld = there.contains(document.activeElement) && !document.activeElement.closest("td.tick");
          if (isHeld) { isWhole = false; continue; }
          for (const cell of there.querySelectorAll(":scope > :not(.tick)")) cell.remove();
          there.append(...row.querySelectorAll(":scope > :not(.tick)"));
          note(there);
        }
      }
      say(old);
    };
    const look = async () => {
      let wait = Number(watch.dataset.watch);
      try {
        if (!document.hidden) {
          const response = await fetch(watch.dataset.address || "/operations", { headers: { "Tallystick-Live": watch.dataset.version } });
          if (response.status === 200 && !response.redirected) {
            const page = new DOMParser().parseFromString(await response.text(), "text/html");
            const source = page.querySelector("[data-watch]");
            if (source) {
              isWhole = true;
              for (const fresh of page.querySelectorAll("[data-piece]")) {
                const old = document.getElementById(fresh.id);
                if (!old) continue;
                if (old.dataset.rows !== undefined) mergeRows(old, fresh);
                else if (old.innerHTML === fresh.innerHTML) continue;
                else if (old.contains(document.activeElement)) isWhole = false;
                else old.replaceChildren(...fresh.childNodes);
              }
              if (isWhole) watch.dataset.version = source.dataset.version;
              wait = Number(source.dataset.watch);
            }
          }
        }
      } catch { /* the next try may go better */ }
      setTimeout(look, wait * 1000);
    };
    setTimeout(look, Number(watch.dataset.watch) * 1000);
  }

  // One box ticks all boxes of a list.
  for (const all of document.querySelectorAll("[data-tick-all]")) {
    const boxes = () => all.form.querySelectorAll(`input[type=checkbox][name="${all.dataset.tickAll}"]:not(:disabled)`);
    all.hidden = false;
    if (all.closest("label")) all.closest("label").hidden = false;
    all.addEventListener("change", () => { for (const box of boxes()) box.checked = all.checked; });
  }
})();
