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

  // A box in a picture, and all that it is connected to.
  const connect = (picture) => {
    const nodes = all("[data-node]", picture);
    const edges = all("[data-from]", picture);
    if (!edges.length) return;
    const isFar = !edges.some((edge) => edge.classList.contains("reference"));
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
              if (isFar) waiting.push(edge.dataset[to]);
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
  };

  // Lineage: one column at a time.
  const columns = all(".column");
  const choices = all(".figures a");
  const choose = (id) => {
    columns.forEach((column) => column.classList.toggle("current", column.id === id));
    const place = document.getElementById(id).querySelector(".picture");
    if (place) drawOnce(place);
    choices.forEach((link) => {
      const isCurrent = decodeURIComponent(link.hash.slice(1)) === id;
      if (isCurrent) {
        link.setAttribute("aria-current", "true");
        link.closest("details").open = true;
      } else link.removeAttribute("aria-current");
    });
  };

  // Search in everything: names first, then all words.
  const MOST = 60;
  const query = document.getElementById("query");
  const results = document.getElementById("results");
  let index = null;
  const words = () => query.value.toLowerCase().split(/\s+/).filter(Boolean);
  const search = () => {
    index ??= all("[data-find]").map((element) => ({
      element, kind: element.dataset.find, name: element.dataset.name,
      words: `${element.dataset.name} ${(element.querySelector(":scope > summary") ?? element).textContent}`.toLowerCase(),
    }));
    const wanted = words();
    results.hidden = !wanted.length;
    if (!wanted.length) return;
    const score = (one) => wanted.reduce((sum, word) => {
      const name = one.name.toLowerCase();
      return sum + (name === word || name.endsWith(`.${word}`) ? 0 : name.includes(word) ? 1 : 3);
    }, one.kind === "SQL" ? 2 : 0);
    const hits = index.filter((one) => wanted.every((word) => one.words.includes(word))).sort((a, b) => score(a) - score(b));
    const count = document.createElement("p");
    count.textContent = hits.length ? `${hits.length} found${hits.length > MOST ? `, the first ${MOST}` : ""}` : "Nothing contains these words.";
    results.replaceChildren(count, ...hits.slice(0, MOST).map((hit) => {
      const link = document.createElement("a");
      const target = hit.element.id ? hit.element : hit.element.closest("[id]");
      link.href = `#${encodeURIComponent(target.id)}`;
      const kind = document.createElement("span");
      kind.className = "kind";
      kind.textContent = hit.kind;
      link.append(hit.name, " ", kind);
      link.addEventListener("click", () => { results.hidden = true; setTimeout(() => show(hit.element)); });
      return link;
    }));
  };
  const show = (element) => {
    for (let one = element; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    element.scrollIntoView({ block: "center" });
    element.classList.add("found");
    setTimeout(() => element.classList.remove("found"), 2500);
  };
  query.addEventListener("input", search);
  query.addEventListener("focus", search);
  addEventListener("click", (event) => { if (!event.target.closest("search")) results.hidden = true; });
  addEventListener("keydown", (event) => {
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      query.focus();
      query.select();
    } else if (event.key === "Escape") {
      results.hidden = true;
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const links = all("a", results);
      const place = links.indexOf(document.activeElement);
      if (results.hidden || (place < 0 && event.target !== query)) return;
      event.preventDefault();
      (links[place + (event.key === "ArrowDown" ? 1 : -1)] ?? query).focus();
    } else if (event.key === "Enter" && event.target === query) {
      results.querySelector("a")?.click();
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

  // Pictures: those of the chosen column first, all others when the browser has time.
  const pictures = new Map(JSON.parse(document.getElementById("pictures").textContent).map((one) => [one.id, one]));
  const drawn = new Map();
  const drawOnce = (place) => {
    const id = place.dataset.picture;
    if (!drawn.has(id)) drawn.set(id, draw(pictures.get(id), place).then(connect));
    return drawn.get(id);
  };
  const first = columns.find((column) => column.querySelector(".picture")) ?? columns[0];
  if (first) choose(first.id);
  go();
  markPage();
  const asked = new URLSearchParams(location.search).get("search");
  if (asked) {
    query.value = asked;
    search();
  }
  (async () => {
    const places = all(".picture").sort((one, two) => Boolean(one.closest(".column")) - Boolean(two.closest(".column")));
    for (const place of places) await drawOnce(place);
    go();
    document.body.dataset.state = "ready";
  })();
})();
