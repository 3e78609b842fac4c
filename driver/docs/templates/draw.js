"use strict";
// Draws the pictures: ELK finds the places, this file the shapes. A picture is JSON (see pictures.py).
const draw = (() => {
  const elk = new ELK();
  const ROW = 18;
  const CURVE = 9;
  const NS = "http://www.w3.org/2000/svg";
  const theme = getComputedStyle(document.documentElement);
  const font = (name) => theme.getPropertyValue(`--${name}`);
  const canvas = document.createElement("canvas").getContext("2d");
  const measure = (text, style) => {
    canvas.font = style;
    return Math.ceil(canvas.measureText(text).width);
  };
  const FONTS = {
    title: `650 12.5px ${font("font")}`,
    over: `600 9.5px ${font("font")}`,
    note: `10.5px ${font("font")}`,
    name: `700 11px ${font("mono")}`,
  };

  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== "") made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  };
  const words = (x, y, text, style, anchor = "") => element("text", { x, y, class: style, "text-anchor": anchor }, text);

  // Sizes: as wide as the longest line.
  const sized = (box) => {
    const marks = box.rows.some((row) => row.mark) ? 24 : 0;
    const widths = box.rows.map((row) => marks + measure(row.name, FONTS.name) + (row.note ? measure(row.note, FONTS.name) + 16 : 0));
    const width = 26 + Math.max(
      measure(box.title, FONTS.title), measure(box.over ?? "", FONTS.over), measure(box.note ?? "", FONTS.note), ...widths,
    );
    const head = box.note ? 38 : box.over ? 40 : 30;
    return { ...box, marks, width, head, height: head + (box.rows.length ? box.rows.length * ROW + 8 : 0) };
  };

  const rowAt = (box, name) => {
    const place = box.rows.findIndex((row) => row.name === name);
    return place < 0 ? box.height / 2 : box.head + 4 + (place + 0.5) * ROW;
  };

  const layout = async (picture) => {
    const boxes = new Map(picture.boxes.map((box) => [box.id, sized(box)]));
    const isFlow = ![...boxes.values()].some((box) => box.rows.length && !box.column);
    const numbers = new Map([...boxes.keys()].map((id, place) => [id, `n${place}`]));
    if (picture.headings.length) {
      for (const box of boxes.values()) {
        box.width = Math.max(...[...boxes.values()].filter((one) => one.column === box.column).map((one) => one.width));
      }
    }
    const ports = new Map([...boxes.keys()].map((id) => [id, new Map()]));
    const port = (id, row, side) => {
      const name = `${numbers.get(id)}:${side}:${row ?? ""}`;
      const box = boxes.get(id);
      ports.get(id).set(name, {
        id: name, x: side === "EAST" ? box.width : 0, y: rowAt(box, row), width: 0, height: 0,
        layoutOptions: { "elk.port.side": side },
      });
      return name;
    };
    const lines = picture.lines.filter((line) => line.start !== line.end);
    const edges = lines.map((line, place) => ({
      id: `e${place}`,
      sources: [port(line.start, line.start_row, "EAST")],
      targets: [port(line.end, line.end_row, "WEST")],
    }));
    const hasColumns = [...boxes.values()].some((box) => box.column > 0);
    const graph = await elk.layout({
      id: "root",
      layoutOptions: {
        "elk.algorithm": "layered",
        "elk.direction": "RIGHT",
        "elk.edgeRouting": "ORTHOGONAL",
        "elk.partitioning.activate": String(hasColumns),
        "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX",
        "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
        "elk.layered.considerModelOrder.crossingCounterNodeInfluence": "0.01",
        "elk.layered.spacing.nodeNodeBetweenLayers": isFlow ? "46" : "64",
        "elk.layered.spacing.edgeNodeBetweenLayers": "14",
        "elk.layered.spacing.edgeEdgeBetweenLayers": isFlow ? "5" : "8",
        "elk.spacing.nodeNode": isFlow ? "9" : "20",
        "elk.spacing.edgeNode": "9",
        "elk.spacing.edgeEdge": "6",
        "elk.layered.thoroughness": "10",
        "elk.separateConnectedComponents": "false",
        "elk.padding": "[top=2,left=2,bottom=2,right=2]",
      },
      children: [...boxes.values()].map((box) => ({
        id: numbers.get(box.id),
        width: box.width,
        height: box.height,
        ports: [...ports.get(box.id).values()],
        layoutOptions: {
          "elk.portConstraints": "FIXED_POS",
          "elk.alignment": "LEFT",
          ...(hasColumns ? { "elk.partitioning.partition": String(box.column ?? 0) } : {}),
          ...(!hasColumns && box.column === 0 ? { "elk.layered.layering.layerConstraint": "FIRST" } : {}),
        },
      })),
      edges,
    });
    const places = new Map(graph.children.map((child) => [child.id, child]));
    for (const [id, box] of boxes) Object.assign(box, { x: places.get(numbers.get(id)).x, y: places.get(numbers.get(id)).y });
    const ways = graph.edges.map((edge) => {
      const { startPoint, bendPoints = [], endPoint } = edge.sections[0];
      return [startPoint, ...bendPoints, endPoint];
    });
    return { width: graph.width, height: graph.height, boxes: [...boxes.values()], lines, ways };
  };

  // A line with its corners rounded.
  const path = (points) => {
    let data = `M${points[0].x} ${points[0].y}`;
    for (let place = 1; place < points.length - 1; place += 1) {
      const [before, here, after] = points.slice(place - 1, place + 2);
      const reach = (one) => Math.min(CURVE, Math.hypot(one.x - here.x, one.y - here.y) / 2);
      const toward = (one) => {
        const length = Math.hypot(one.x - here.x, one.y - here.y) || 1;
        return `${here.x + ((one.x - here.x) / length) * reach(one)} ${here.y + ((one.y - here.y) / length) * reach(one)}`;
      };
      data += `L${toward(before)}Q${here.x} ${here.y} ${toward(after)}`;
    }
    const last = points[points.length - 1];
    return `${data}L${last.x} ${last.y}`;
  };

  const card = (box) => {
    const title = element("g", {},
      box.rows.length
        ? element("path", { class: "head", d: `M0 8a8 8 0 0 1 8-8h${box.width - 16}a8 8 0 0 1 8 8v${box.head - 8}h-${box.width}z` })
        : element("rect", { class: "head", width: box.width, height: box.height, rx: 8 }),
      box.style.startsWith("task") ? element("rect", { class: "bar", x: 6, y: 6, width: 4, height: box.height - 12, rx: 2 }) : null,
      box.over ? words(11, 15, box.over, "over") : null,
      words(box.style.startsWith("task") ? 18 : 11, box.note ? 16 : box.head - 10, box.title, "title"),
      box.note ? words(box.style.startsWith("task") ? 18 : 11, 30, box.note, "note") : null,
    );
    const link = box.link ? element("a", { href: `#${box.link}` }, title) : title;
    const rows = box.rows.map((row, place) => {
      const base = box.head + 4 + place * ROW + 13;
      return element("g", { class: "row" },
        row.title ? element("title", {}, row.title) : null,
        row.mark ? words(11, base - 0.5, row.mark, "mark") : null,
        words(11 + box.marks, base, row.name, `name ${row.style ?? ""}`.trim()),
        row.note ? words(box.width - 11, base, row.note, "note", "end") : null,
      );
    });
    return element("g", { class: `card ${box.style ?? ""}`, "data-node": box.id, transform: `translate(${box.x} ${box.y})` },
      element("rect", { class: "paper", width: box.width, height: box.height, rx: 8 }), link, ...rows);
  };

  const end = (kind) => (kind ? `url(#${kind})` : "");

  return async (picture, place) => {
    for (const box of picture.boxes) {
      box.rows ??= [];
      box.style ??= "";
    }
    const found = await layout(picture);
    const top = picture.headings.length ? 28 : 0;
    const svg = element("svg", {
      class: "diagram", id: picture.id, role: "group", "aria-label": `${picture.title}. ${picture.description}`,
      viewBox: `-8 -8 ${found.width + 16} ${found.height + top + 16}`, style: `--w:${found.width + 16}px`,
    });
    picture.headings.forEach((heading, column) => {
      const members = found.boxes.filter((box) => (box.column ?? 0) === column);
      if (heading && members.length) svg.append(words(Math.min(...members.map((box) => box.x)) + 2, 12, heading, "heading"));
    });
    const body = element("g", { transform: `translate(0 ${top})` });
    found.lines.forEach((line, number) => body.append(element("path", {
      class: `edge ${line.style}`, d: path(found.ways[number]), "data-from": line.start, "data-to": line.end,
      "marker-start": end(line.start_end), "marker-end": end(line.end_end),
    })));
    body.append(...found.boxes.map(card));
    svg.append(body);
    place.replaceChildren(svg);
    return svg;
  };
})();
