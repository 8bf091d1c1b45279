// What the pages do beyond links and forms: local times, first words, keys, completion, live rows, copying.
// Everything that comes from a record is set as text, never as markup.
"use strict";

(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  function localTimes(root) {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const two = (number) => String(number).padStart(2, "0");
    const format = (t) =>
      `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ` +
      `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
    for (const time of all("time[datetime]", root)) {
      const moment = new Date(time.dateTime);
      if (!Number.isNaN(moment.valueOf())) {
        time.textContent = format(moment);
        time.title = time.dateTime;
      }
    }
    const place = one("#zone");
    if (place && zone) place.textContent = zone;
  }

  async function firstWords(root) {
    const rows = all(".calls tr[data-id]", root);
    if (!rows.length) return;
    const query = new URLSearchParams(rows.map((row) => ["id", row.dataset.id]));
    const response = await fetch(`/previews?${query}`);
    if (!response.ok) return;
    const previews = await response.json();
    for (const row of rows) {
      const preview = previews[row.dataset.id];
      if (preview) {
        one(".asked", row).textContent = preview.request;
        one(".answered", row).textContent = preview.response;
      }
    }
  }

  // -- keys: j and k move in a list, Enter opens, / goes to the filter, Escape leaves it

  function select(row) {
    for (const other of all(".selected")) other.classList.remove("selected");
    row.classList.add("selected");
    row.scrollIntoView({ block: "nearest" });
    one("a", row)?.focus({ preventScroll: true });
  }

  function move(step) {
    const rows = all("[data-id]").filter((row) => !row.hidden);
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.classList.contains("selected"));
    select(rows[Math.min(Math.max(at + step, 0), rows.length - 1)]);
  }

  // -- who comes back to a list finds the row again that was opened

  function place() {
    return `row of ${location.pathname}${location.search}`;
  }

  function returnToRow() {
    const [navigation] = performance.getEntriesByType("navigation");
    const id = sessionStorage.getItem(place());
    if (navigation?.type !== "back_forward" || id === null) return;
    const row = all("tr[data-id]").find((candidate) => candidate.dataset.id === id);
    if (row) select(row);
  }

  function isTyping(target) {
    return target instanceof HTMLElement && target.matches("input, textarea, select");
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "j" || event.key === "k") move(event.key === "j" ? 1 : -1);
    else if (event.key === "p" || event.key === "n") one(`.neighbours a[rel=${event.key === "p" ? "prev" : "next"}]`)?.click();
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const row = one(".tree .selected");
      if (row) fold(row, event.key === "ArrowRight");
    } else if (event.key === "/" && one("#q")) {
      event.preventDefault();
      one("#q").focus();
    } else if (event.key === "Enter" && !(event.target instanceof HTMLAnchorElement)) one(".selected a")?.click();
  });

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const twist = target?.closest("button.twist");
    if (twist) {
      fold(twist.closest("tr"), twist.getAttribute("aria-expanded") === "false");
      return;
    }
    const copied = target?.closest("[data-copy]");
    if (copied) {
      navigator.clipboard?.writeText(one(`#${copied.dataset.copy}`).textContent);
      copied.textContent = "Copied";
      return;
    }
    const row = target?.closest("tr[data-id]");
    if (row) sessionStorage.setItem(place(), row.dataset.id);
    if (row && !target.closest("a, button") && !String(getSelection())) one("a", row)?.click();
  });

  // -- a tree: a node folds what is below it

  function fold(row, isOpen) {
    const button = one("button.twist", row);
    if (!button) return;
    button.setAttribute("aria-expanded", String(isOpen));
    button.textContent = isOpen ? "▾" : "▸";
    const depth = Number(row.dataset.depth);
    let hiddenBelow = isOpen ? Infinity : depth;
    for (let next = row.nextElementSibling; next && Number(next.dataset.depth) > depth; next = next.nextElementSibling) {
      const level = Number(next.dataset.depth);
      if (level <= hiddenBelow) hiddenBelow = Infinity;
      next.hidden = level > hiddenBelow;
      if (!next.hidden && one("button.twist", next)?.getAttribute("aria-expanded") === "false") hiddenBelow = level;
    }
  }

  // -- the filter line: completion of the word at the cursor

  let suggestions = { list: null, at: -1 };

  function closeCompletions() {
    suggestions.list?.remove();
    suggestions = { list: null, at: -1 };
    one("#q")?.removeAttribute("aria-activedescendant");
  }

  function wordAt(input) {
    const end = input.selectionStart ?? input.value.length;
    const start = input.value.slice(0, end).search(/\S*$/);
    return { start, end, text: input.value.slice(start, end) };
  }

  function accept(input, text) {
    const word = wordAt(input);
    const rest = input.value.slice(word.end);
    input.value = input.value.slice(0, word.start) + text + rest;
    input.setSelectionRange(word.start + text.length, word.start + text.length);
    closeCompletions();
    input.focus();
    if (/[:<>=]$/.test(text)) complete(input);
  }

  function mark(step) {
    const items = all("li", suggestions.list);
    if (!items.length) return;
    suggestions.at = (suggestions.at + step + items.length) % items.length;
    items.forEach((item, index) => item.setAttribute("aria-selected", String(index === suggestions.at)));
    one("#q").setAttribute("aria-activedescendant", items[suggestions.at].id);
    items[suggestions.at].scrollIntoView({ block: "nearest" });
  }

  async function complete(input) {
    const word = wordAt(input);
    const response = await fetch(`/complete?${new URLSearchParams({ word: word.text })}`);
    if (!response.ok || document.activeElement !== input || wordAt(input).text !== word.text) return;
    const words = await response.json();
    const offered = suggestions.list ? all("li", suggestions.list).map((item) => item.textContent) : null;
    if (JSON.stringify(words) === JSON.stringify(offered)) return; // what is chosen there stays chosen
    closeCompletions();
    if (!words.length) return;
    const list = document.createElement("ul");
    list.className = "completions";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Completions");
    words.forEach((text, index) => {
      const item = document.createElement("li");
      item.id = `completion-${index}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      item.textContent = text;
      item.addEventListener("mousedown", (event) => {
        event.preventDefault();
        accept(input, text);
      });
      list.append(item);
    });
    input.form.append(list);
    suggestions = { list, at: -1 };
  }

  function filterLine(root) {
    const input = one("#q", root);
    if (!input || input.dataset.ready) return;
    input.dataset.ready = "1";
    input.addEventListener("input", () => complete(input));
    input.addEventListener("blur", closeCompletions);
    input.addEventListener("keydown", (event) => {
      if (!suggestions.list) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        mark(event.key === "ArrowDown" ? 1 : -1);
      } else if ((event.key === "Enter" || event.key === "Tab") && suggestions.at >= 0) {
        event.preventDefault();
        accept(input, all("li", suggestions.list)[suggestions.at].textContent);
      } else if (event.key === "Escape") {
        event.stopPropagation();
        closeCompletions();
      }
    });
  }

  // -- live rows: told by the server, shown at once at the top of the page, else when asked for

  let source = null;

  function live() {
    source?.close();
    source = null;
    const list = one("#calls[data-live]");
    if (!list) return;
    source = new EventSource(list.dataset.events);
    source.addEventListener("calls", () => {
      if (scrollY < 40 && !isTyping(document.activeElement) && !one(".selected")) refresh();
      else one("#fresh")?.removeAttribute("hidden");
    });
  }

  function refresh() {
    htmx.ajax("GET", location.pathname + location.search, { target: "#main", select: "#main", swap: "outerHTML" });
  }

  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && live());

  function ready(root) {
    localTimes(root);
    firstWords(root);
    filterLine(root);
    live();
    one("#show-fresh", root)?.addEventListener("click", refresh);
    globalThis.drawCharts?.(root);
  }

  document.addEventListener("DOMContentLoaded", () => {
    ready(document);
    returnToRow();
  });
  document.addEventListener("htmx:afterSwap", () => ready(document));
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status < 400) return;
    if (event.detail.target.id === "main") event.detail.shouldSwap = true; // an error is a page as well
    else if (event.detail.target.id === "sums") one("#late").hidden = false;
  });
})();
