"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Dark or light: what was chosen last, otherwise what the system says.
  const remembered = (() => {
    try { return localStorage.getItem("theme"); } catch { return null; }
  })();
  if (remembered) root.dataset.theme = remembered;
  document.getElementById("theme").addEventListener("click", () => {
    const isDark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a page from a file may not */ }
  });
  document.getElementById("print").addEventListener("click", () => print());

  // Which section is looked at.
  const pages = all(".side nav a");
  const sections = pages.map((link) => document.querySelector(link.hash));
  const markPage = () => {
    const middle = innerHeight / 3;
    let current = 0;
    sections.forEach((section, place) => {
      if (section.getBoundingClientRect().top <= middle) current = place;
    });
    pages.forEach((link, place) => {
      if (place === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  };
  addEventListener("scroll", markPage, { passive: true });

  // A box in a picture, and all that it hangs together with: made of, made from.
  for (const picture of all(".diagram")) {
    const nodes = all("[data-node]", picture);
    const edges = all("[data-from]", picture);
    if (!edges.length) continue;
    const far = picture.id === "table-flow" || picture.id === "task-graph";
    const reach = (name, from, to) => {
      const seen = new Set([name]);
      const waiting = [name];
      while (waiting.length) {
        const one = waiting.pop();
        for (const edge of edges) {
          if (edge.dataset[from] === one) {
            edge.classList.add("lit");
            if (!seen.has(edge.dataset[to])) {
              seen.add(edge.dataset[to]);
              if (far) waiting.push(edge.dataset[to]);
            }
          }
        }
      }
      return seen;
    };
    const light = (node) => {
      for (const one of [...nodes, ...edges]) one.classList.remove("lit");
      const name = node.dataset.node;
      const lit = new Set([...reach(name, "from", "to"), ...reach(name, "to", "from")]);
      for (const one of nodes) one.classList.toggle("lit", lit.has(one.dataset.node));
      picture.classList.add("focused");
    };
    const dim = () => picture.classList.remove("focused");
    for (const node of nodes) {
      node.addEventListener("mouseenter", () => light(node));
      node.addEventListener("mouseleave", dim);
      node.addEventListener("focusin", () => light(node));
      node.addEventListener("focusout", dim);
    }
  }

  // Lineage: one column at a time.
  const columns = all(".column");
  const choices = all(".figures a");
  const choose = (id) => {
    columns.forEach((column) => column.classList.toggle("current", column.id === id));
    choices.forEach((link) => {
      const isCurrent = decodeURIComponent(link.hash.slice(1)) === id;
      if (isCurrent) {
        link.setAttribute("aria-current", "true");
        link.closest("details").open = true;
      } else link.removeAttribute("aria-current");
    });
  };

  // Dictionary: search in names and comments.
  const query = document.getElementById("query");
  const found = document.getElementById("found");
  const parts = all(".schema-part").map((part) => ({
    part,
    entries: all(".entry", part).map((entry) => ({
      entry,
      words: (entry.querySelector("summary, p").textContent).toLowerCase(),
      rows: all("tbody tr", entry).map((row) => ({
        row,
        words: `${row.cells[0].textContent} ${row.cells[2].textContent}`.toLowerCase(),
      })),
    })),
  }));
  const search = () => {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const holds = (text) => words.every((word) => text.includes(word));
    let entries = 0;
    let hits = 0;
    for (const { part, entries: members } of parts) {
      let any = false;
      for (const { entry, words: own, rows } of members) {
        const byName = holds(own);
        const matching = rows.filter((one) => holds(one.words) || holds(`${own} ${one.words}`));
        const isFound = !words.length || byName || matching.length > 0;
        entry.hidden = !isFound;
        any ||= isFound;
        entries += isFound ? 1 : 0;
        const narrow = words.length > 0 && !byName;
        for (const one of rows) one.row.hidden = narrow && !matching.includes(one);
        if (narrow && isFound) hits += matching.length;
        if ("open" in entry) entry.open = narrow && isFound;
      }
      part.hidden = words.length > 0 && !any;
    }
    found.textContent = !words.length
      ? ""
      : entries ? `${entries} ${entries === 1 ? "entry" : "entries"}${hits ? `, ${hits} columns` : ""}` : "Nothing has these words.";
  };
  query.addEventListener("input", search);
  query.form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("keydown", (event) => {
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      query.focus();
      query.select();
    } else if (event.key === "Escape" && event.target === query && query.value) {
      query.value = "";
      search();
    }
  });

  // Addresses lead to closed and hidden places, too.
  const go = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && document.getElementById(id);
    if (!target) return;
    if (target.classList.contains("column")) {
      choose(id);
      document.getElementById("lineage").scrollIntoView();
      return;
    }
    if (target.hidden || target.closest("[hidden]")) {
      query.value = "";
      search();
    }
    if (target.matches("details.entry")) {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", go);

  // On paper everything that is found is open.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details.entry:not([open]):not([hidden])");
    for (const entry of opened) entry.open = true;
  });
  addEventListener("afterprint", () => {
    for (const entry of opened) entry.open = false;
  });

  const first = columns.find((column) => column.querySelector(".diagram")) ?? columns[0];
  if (first) choose(first.id);
  const asked = new URLSearchParams(location.search).get("search");
  if (asked) {
    query.value = asked;
    search();
  }
  go();
  markPage();
  document.body.dataset.state = "ready";
})();
