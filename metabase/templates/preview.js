// Shows what the page carries: answers of questions, and cells to add up for the rankings. No request leaves the page.
"use strict";
(function () {
  const page = JSON.parse(document.getElementById("data").textContent);
  const SEPARATOR = "\u001f";
  const dateFilters = page.filters.filter((one) => one.type === "date");
  const chosen = {};
  const views = new Map();
  let cells = null;

  // Formats ---------------------------------------------------------------------------------------

  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const formats = new Map();

  function numberFormat(options) {
    const key = JSON.stringify(options);
    if (!formats.has(key)) formats.set(key, new Intl.NumberFormat("en-GB", options));
    return formats.get(key);
  }

  function number(value, decimals, more) {
    const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals, ...more };
    return numberFormat(options).format(value).replace(/-/g, "−");
  }

  function money(value, decimals) {
    return number(value, decimals, { style: "currency", currency: page.currency, currencyDisplay: "narrowSymbol" });
  }

  const SIGNED = { signDisplay: "exceptZero" };

  function format(value, column) {
    if (value === null || value === undefined || value === "") return "–";
    const decimals = column.decimals;
    switch (column.format) {
      case "money": return money(value, decimals);
      case "percent": return number(value, decimals, SIGNED) + " %";
      case "points": return number(value, decimals, SIGNED) + " pp";
      case "hours": return number(value, decimals) + " h";
      case "number": return number(value, decimals);
      case "boolean": return value ? "yes" : "no";
      case "month": return monthName(value);
      case "date": return Number(value.slice(8, 10)) + " " + monthName(value);
      default: return String(value);
    }
  }

  function monthName(day) {
    return MONTHS[Number(day.slice(5, 7)) - 1] + " " + day.slice(0, 4);
  }

  function withUnit(value, unit, column) {
    if (value === null) return "–";
    if (unit === page.currency) return money(value, Math.abs(value) >= 10000 ? 0 : column.decimals);
    if (unit === "pp") return number(value, column.decimals, SIGNED) + " pp";
    if (unit === "hours") return number(value, 1) + " h";
    if (unit === "days") return number(value, 1) + " d";
    return number(value, column.decimals) + (unit ? " " + unit : "");
  }

  function short(value, column) {
    if (value === null) return "";
    const few = { notation: "compact", maximumFractionDigits: 1, minimumFractionDigits: 0 };
    if (column.format === "money") {
      return numberFormat({ ...few, style: "currency", currency: page.currency, currencyDisplay: "narrowSymbol" }).format(value).replace(/-/g, "−");
    }
    const suffix = { percent: " %", points: " pp", hours: " h" }[column.format] || "";
    return numberFormat(few).format(value).replace(/-/g, "−") + suffix;
  }

  // Periods ---------------------------------------------------------------------------------------

  function periodStart(value, kind) {
    const quarter = kind === "quarter" && /^(\d{4}) Q([1-4])$/.exec(value);
    if (quarter) return quarter[1] + "-" + String(3 * quarter[2] - 2).padStart(2, "0") + "-01";
    return String(value).slice(0, 10);
  }

  function truncated(day, kind) {
    const month = Number(day.slice(5, 7));
    if (kind === "quarter") return day.slice(0, 5) + String(month - ((month - 1) % 3)).padStart(2, "0") + "-01";
    return kind === "month" ? day.slice(0, 8) + "01" : day;
  }

  function nextStart(day, kind) {
    const moment = new Date(day + "T00:00:00Z");
    if (kind === "date") moment.setUTCDate(moment.getUTCDate() + 1);
    else moment.setUTCMonth(moment.getUTCMonth() + (kind === "quarter" ? 3 : 1));
    return moment.toISOString().slice(0, 10);
  }

  function isRunning(day, kind) {
    return nextStart(day, kind) > page.freshness.whole_until;
  }

  // Answers ---------------------------------------------------------------------------------------

  function bound(tile, end) {
    const key = Object.keys(tile.bounds).find((one) => tile.bounds[one] === end);
    return (key && chosen[key]) || null;
  }

  function rowsOf(tile) {
    if (tile.ranking) return rank(tile);
    const rows = tile.answers[tile.choices.map((key) => chosen[key] || "").join(SEPARATOR)] || [];
    const first = bound(tile, "lower");
    const last = bound(tile, "upper");
    if (!tile.x || !(first || last)) return rows;
    const axis = columnOf(tile, tile.x);
    return rows.filter((row) => {
      const day = periodStart(row[axis.index], axis.format);
      return (!first || day >= truncated(first, axis.format)) && (!last || day <= last);
    });
  }

  function columnOf(tile, name) {
    const index = tile.columns.findIndex((column) => column.name === name);
    return index < 0 ? null : { ...tile.columns[index], index };
  }

  const PLACES = ["country", "product_type", "product_subtype", "product_name"];

  function rank(tile) {
    const { label, order, limit } = tile.ranking;
    const cube = page.cube;
    const first = bound(tile, "lower");
    const last = bound(tile, "upper");
    const low = first ? 1 + cube.months.filter((month) => month < truncated(first, "month")).length : 0;
    const high = last ? cube.months.filter((month) => month <= last).length : cube.months.length;
    const wanted = PLACES.map((name) => {
      return tile.choices.includes(name) && chosen[name] ? cube.members[name].indexOf(chosen[name]) : null;
    });
    const size = cube.members[label].length;
    const quantity = new Float64Array(size);
    const sales = new Float64Array(size);
    const isThere = new Uint8Array(size);
    const at = PLACES.indexOf(label);
    for (let n = 0; n < cube.count; n++) {
      if (cells.month[n] < low || cells.month[n] > high) continue;
      if (wanted[0] !== null && cells.country[n] !== wanted[0]) continue;
      const item = cube.items[cells.item[n]];
      if (wanted[1] !== null && item[0] !== wanted[1]) continue;
      if (wanted[2] !== null && item[1] !== wanted[2]) continue;
      if (wanted[3] !== null && item[2] !== wanted[3]) continue;
      const member = at === 0 ? cells.country[n] : item[at - 1];
      quantity[member] += cells.quantity[n];
      sales[member] += cells.sales[n];
      isThere[member] = 1;
    }
    const by = order === "quantity" ? quantity : sales;
    const members = [];
    for (let member = 0; member < size; member++) if (isThere[member]) members.push(member);
    members.sort((one, other) => by[other] - by[one] || one - other);
    return members.slice(0, limit === null ? undefined : limit).map((member) => {
      const row = { [label]: cube.members[label][member], quantity: quantity[member], sales: sales[member] / cube.minorUnits };
      return tile.columns.map((column) => row[column.name]);
    });
  }

  async function unpack() {
    const cube = page.cube;
    if (!cube) return;
    const packed = Uint8Array.from(atob(cube.cells), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    delete cube.cells;
    let position = 0;
    function next() {
      // Not by shifts: amounts may be longer than the 32 bits that those have.
      let value = 0;
      let factor = 1;
      let byte;
      do {
        byte = bytes[position++];
        value += (byte & 127) * factor;
        factor *= 128;
      } while (byte > 127);
      return value % 2 ? -(value + 1) / 2 : value / 2;
    }
    const countries = cube.members.country.length;
    const items = cube.items.length;
    cells = {
      month: new Uint16Array(cube.count),
      country: new Uint16Array(cube.count),
      item: new Uint32Array(cube.count),
      quantity: new Float64Array(cube.count),
      sales: new Float64Array(cube.count),
    };
    let place = 0;
    for (let n = 0; n < cube.count; n++) {
      place += next();
      const pair = Math.floor(place / items);
      cells.item[n] = place % items;
      cells.country[n] = pair % countries;
      cells.month[n] = Math.floor(pair / countries);
      cells.quantity[n] = next();
      cells.sales[n] = next();
    }
  }

  // Elements --------------------------------------------------------------------------------------

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function drawing(name, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function cell(value, shown, attributes, name) {
    return element(name || "td", { "data-value": JSON.stringify(value), ...attributes }, shown);
  }

  function isText(column) {
    return ["text", "sparkline", "boolean", "month", "quarter", "date"].includes(column.format);
  }

  // Tables ----------------------------------------------------------------------------------------

  function plainTable(tile, rows, visible) {
    const head = element("tr", {}, ...visible.map((column) => element("th", { scope: "col", class: isText(column) ? "text" : null }, column.title)));
    const body = rows.map((row) => element("tr", {}, ...visible.map((column, n) => {
      const value = row[column.index];
      const attributes = { class: isText(column) ? "text" : null, scope: n ? null : "row" };
      return cell(value, format(value, column), attributes, n ? "td" : "th");
    })));
    return table(tile, "", head, body);
  }

  function table(tile, kind, head, body) {
    return element("table", { class: kind, "aria-labelledby": "name-" + tile.key }, element("thead", {}, head), element("tbody", {}, ...body));
  }

  function indexed(tile) {
    return tile.columns.map((column, index) => ({ ...column, index }));
  }

  // A table with a unit and a sparkline: large values, signs and colours by whether up is good.
  function figures(tile, rows) {
    const columns = indexed(tile);
    const unit = columns.find((column) => column.name === "unit");
    const good = columns.find((column) => column.name === "is_up_good");
    const visible = columns.filter((column) => !column.hidden && column !== unit);
    const lead = visible.find((column) => column.format === "number" || column.format === "money");
    const kind = (column) => {
      if (column === lead) return "lead";
      if (column.format === "percent") return "growth";
      if (column.format === "sparkline") return "trend";
      return isText(column) ? "text" : "quiet";
    };
    const head = element("tr", {}, ...visible.map((column) => element("th", { scope: "col", class: column.format === "sparkline" ? "trend text" : null }, column.title)));
    const body = rows.map((row) => element("tr", {}, ...visible.map((column, n) => {
      const value = row[column.index];
      const attributes = { class: kind(column), "data-title": column.title };
      if (n === 0) return cell(value, format(value, column), { scope: "row" }, "th");
      if (column.format === "sparkline") return cell(value, sparkline(value), attributes);
      if (column.format === "percent") {
        if (good && value) attributes.class += (value > 0 ? " up-" : " down-") + ((value > 0) === row[good.index] ? "good" : "bad");
        return cell(value, value ? (value > 0 ? "▲ " : "▼ ") + format(Math.abs(value), column).replace("+", "") : format(value, column), { ...attributes, title: growthWords(value, good && row[good.index]) });
      }
      return cell(value, unit ? withUnit(value, row[unit.index], column) : format(value, column), attributes);
    })));
    return table(tile, "figures", head, body);
  }

  function growthWords(value, isUpGood) {
    if (value === null) return "Nothing to compare with";
    if (!value) return "Unchanged";
    return (value > 0 ? "Up" : "Down") + ((value > 0) === isUpGood ? ", which is good" : ", which is not good");
  }

  // The block characters that the database has drawn, as a line.
  function sparkline(text) {
    const levels = [...(text || "")].map((sign) => "▁▂▃▄▅▆▇█".indexOf(sign));
    const svg = drawing("svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": text ? "Trend, oldest month first: " + text : "No trend yet" });
    const step = levels.length > 1 ? 100 / (levels.length - 1) : 0;
    const points = levels.map((level, n) => (level < 0 ? null : [n * step, 26 - level * (22 / 7)]));
    let path = "";
    points.forEach((point, n) => {
      if (point) path += (points[n - 1] ? "L" : "M") + point[0].toFixed(1) + " " + point[1].toFixed(1);
    });
    if (path && points.every(Boolean) && points.length > 1) svg.append(drawing("path", { class: "under", d: path + "L100 30L0 30Z" }));
    svg.append(drawing("path", { d: path }));
    return svg;
  }

  function ranking(tile, rows) {
    const visible = indexed(tile).filter((column) => !column.hidden);
    const bar = visible.find((column) => column.bar);
    const most = bar ? Math.max(...rows.map((row) => row[bar.index]), 0) : 0;
    const kind = (column) => (column === bar ? "major" : isText(column) ? "text" : "minor");
    const head = element("tr", {}, ...visible.map((column) => element("th", { scope: "col", class: kind(column) }, column.title)));
    const body = rows.map((row, place) => element("tr", {}, ...visible.map((column, n) => {
      const value = row[column.index];
      const shown = format(value, column);
      if (n === 0) {
        const part = bar && most ? Math.max(row[bar.index], 0) / most : 0;
        const name = element("span", { class: "name", style: "--part:" + part.toFixed(4) }, element("span", {}, shown));
        return element("th", { scope: "row", title: shown, "data-value": JSON.stringify(value) }, element("span", { class: "place", "aria-hidden": "true" }, String(place + 1)), name);
      }
      return cell(value, shown, { class: kind(column) });
    })));
    return table(tile, "ranking", head, body);
  }

  // Charts ----------------------------------------------------------------------------------------

  const EXPRESSIONS = {
    shortValue(value, key) {
      const [question, name] = key.split(" ");
      return short(value, columnOf(page.tiles.find((tile) => tile.key === question), name));
    },
    briefValue(value) {
      return value === null ? "" : numberFormat({ notation: "compact", maximumSignificantDigits: 2 }).format(value).replace(/-/g, "−");
    },
    axisMonth(moment, withYear) {
      const day = new Date(moment);
      const month = MONTHS[day.getUTCMonth()];
      return withYear || day.getUTCMonth() === 0 ? [month, String(day.getUTCFullYear())] : month;
    },
    axisQuarter(name, isFirst) {
      const parts = /^(\d{4}) (Q[1-4])$/.exec(name);
      if (!parts) return name;
      return isFirst || parts[2] === "Q1" ? [parts[2], parts[1]] : parts[2];
    },
  };

  const CONFIG = {
    background: "transparent",
    font: "inherit",
    padding: { left: 2, right: 6, top: 8, bottom: 0 },
    autosize: { type: "fit", contains: "padding" },
    view: { stroke: null },
    axis: {
      domain: false,
      ticks: false,
      labelFont: "inherit",
      labelFontSize: 11.5,
      labelColor: "var(--ink-3)",
      labelPadding: 8,
      grid: false,
      gridColor: "var(--line-soft)",
      title: null,
    },
    text: { font: "inherit", fontSize: 11.5, color: "var(--ink-2)" },
  };

  function points(tile, rows) {
    const axis = columnOf(tile, tile.x);
    const values = tile.y.map((name) => columnOf(tile, name));
    return rows.flatMap((row) => values.map((column) => {
      const day = periodStart(row[axis.index], axis.format);
      const running = ["month", "quarter", "date"].includes(axis.format) && isRunning(day, axis.format);
      return {
        x: axis.format === "quarter" || axis.format === "text" ? row[axis.index] : day,
        y: row[column.index],
        series: column.title,
        running,
        period: format(row[axis.index], axis) + (running ? " (still running)" : ""),
        shown: format(row[column.index], column),
      };
    }));
  }

  function specification(tile, data) {
    const axis = columnOf(tile, tile.x);
    const value = columnOf(tile, tile.y[0]);
    const isTime = axis.format === "month" || axis.format === "date";
    const isBar = tile.display === "bar" || tile.display === "row";
    const key = tile.key + " " + value.name;
    const first = data.length ? data[0].x : null;
    const isLabelled = isBar && data.length <= 14;
    const x = isTime
      ? {
          field: "x", type: "temporal", scale: { type: "utc" },
          axis: { labelExpr: "axisMonth(datum.value, datum.index === 0)", tickCount: { interval: "month", step: data.length > 18 ? 3 : data.length > 9 ? 2 : 1 }, labelOverlap: "greedy", labelSeparation: 6 },
        }
      : {
          field: "x", type: "ordinal", sort: null, scale: { paddingInner: 0.28, paddingOuter: 0.1 },
          axis: { domain: true, domainColor: "var(--line)", labelExpr: "axisQuarter(datum.value, datum.value === " + JSON.stringify(first) + ")", labelAngle: 0, labelOverlap: "greedy" },
        };
    const y = {
      field: "y", type: "quantitative",
      scale: { zero: isBar, nice: true },
      // Bars that bear their value need no scale beside them.
      axis: isLabelled ? null : { grid: true, tickCount: 4, labelExpr: "shortValue(datum.value, '" + key + "')" },
    };
    const tooltip = [{ field: "period", title: axis.title }, { field: "shown", title: value.title }];
    const layer = [];
    const named = [];
    if (isBar) {
      layer.push({
        mark: { type: "bar", cornerRadiusEnd: 4, tooltip: true },
        encoding: {
          x, y, tooltip,
          color: { condition: { test: "datum.running", value: "var(--series-soft)" }, value: "var(--series)" },
          stroke: { condition: { test: "datum.running", value: "var(--series)" }, value: null },
          strokeDash: { condition: { test: "datum.running", value: [4, 3] }, value: [1, 0] },
          strokeWidth: { condition: { test: "datum.running", value: 1.25 }, value: 0 },
        },
      });
      if (isLabelled) {
        layer.push({
          transform: [{ calculate: "briefValue(datum.y)", as: "brief" }],
          mark: { type: "text", dy: -7, fontSize: data.length > 9 ? 10 : 11, limit: 60, aria: false },
          encoding: { x, y, text: { field: "brief" } },
        });
      }
    } else {
      if (tile.goal) {
        const goal = [{ y: tile.goal.value, label: tile.goal.label }];
        layer.push({ data: { values: goal }, mark: { type: "rule", color: "var(--limit)", strokeWidth: 1.25, aria: false }, encoding: { y: { field: "y", type: "quantitative" } } });
        const label = { type: "text", align: "left", baseline: "bottom", x: 2, dy: -4, fontWeight: 600, aria: false };
        const place = { y: { field: "y", type: "quantitative" }, text: { field: "label" } };
        named.push({ data: { values: goal }, mark: { ...label, stroke: "var(--surface)", strokeWidth: 4, strokeJoin: "round" }, encoding: place });
        named.push({ data: { values: goal }, mark: { ...label, color: "var(--limit)" }, encoding: place });
      }
      const whole = data.filter((point) => !point.running);
      const running = data.filter((point) => point.running);
      const joint = whole.length ? [whole[whole.length - 1]] : [];
      const line = { type: "line", color: "var(--series)", strokeWidth: 2.25, strokeCap: "round", strokeJoin: "round", invalid: "break-paths-show-path-domains", aria: false };
      layer.push({ data: { values: whole }, mark: line, encoding: { x, y } });
      if (running.length) layer.push({ data: { values: [...joint, ...running] }, mark: { ...line, strokeDash: [2, 5] }, encoding: { x, y } });
      layer.push(...named);
      layer.push({
        params: [{ name: "near", select: { type: "point", on: "pointerover", nearest: true, clear: "pointerout" } }],
        mark: { type: "point", size: 44, filled: true, strokeWidth: 1.75, tooltip: true },
        encoding: {
          x, y, tooltip,
          fill: { condition: { test: "datum.running", value: "var(--surface)" }, value: "var(--series)" },
          stroke: { value: "var(--series)" },
          opacity: { condition: [{ param: "near", empty: false, value: 1 }, { test: "datum.running", value: 1 }], value: data.length <= 16 ? 1 : 0 },
          size: { condition: { param: "near", empty: false, value: 80 }, value: 44 },
        },
      });
    }
    return { width: "container", height: "container", data: { values: data }, layer, config: CONFIG };
  }

  function summary(tile, data) {
    const known = data.filter((point) => point.y !== null);
    if (!known.length) return tile.name + ": no values.";
    const last = known[known.length - 1];
    return tile.name + ", " + (tile.display === "bar" ? "bar" : "line") + " chart from " + known[0].period + " to " + last.period + ". Latest: " + last.shown + ".";
  }

  async function drawChart(tile, body, rows) {
    const data = points(tile, rows);
    const chart = element("div", { class: "chart", role: "img", "aria-label": summary(tile, data) });
    const inner = element("div", { "aria-hidden": "true" });
    chart.append(inner);
    body.replaceChildren(chart);
    const result = await window.vegaEmbed(inner, specification(tile, data), { actions: false, renderer: "svg", mode: "vega-lite", expressionFunctions: EXPRESSIONS, tooltip: { theme: "page", disableDefaultStyle: true } });
    views.set(tile.key, result);
  }

  // The page --------------------------------------------------------------------------------------

  function isRanking(tile) {
    return Boolean(tile.ranking) || tile.columns.some((column) => column.bar);
  }

  function hasValues(tile, rows) {
    return tile.y.some((name) => rows.some((row) => row[columnOf(tile, name).index] !== null));
  }

  async function show(tile) {
    const section = document.getElementById("tile-" + tile.key);
    const body = section.querySelector(".body");
    const rows = rowsOf(tile);
    if (views.has(tile.key)) {
      views.get(tile.key).finalize();
      views.delete(tile.key);
    }
    tellScope(tile, section.querySelector(".scope"));
    const isChart = tile.display !== "table";
    if (!rows.length) body.replaceChildren(element("p", { class: "empty" }, "Nothing for this choice."));
    else if (isChart && !hasValues(tile, rows)) body.replaceChildren(element("p", { class: "empty" }, "No values yet."));
    else if (isChart) await drawChart(tile, body, rows);
    else if (tile.columns.some((column) => column.format === "sparkline")) body.replaceChildren(figures(tile, rows));
    else if (isRanking(tile)) body.replaceChildren(ranking(tile, rows));
    else body.replaceChildren(plainTable(tile, rows, indexed(tile).filter((column) => !column.hidden)));
    if (isChart) section.querySelector(".numbers").replaceChildren(plainTable(tile, rows, indexed(tile)));
  }

  // A tile that does not follow a filter that is set says so.
  function tellScope(tile, place) {
    const follows = new Set([...tile.choices, ...Object.keys(tile.bounds)]);
    const left = page.filters.filter((one) => chosen[one.key] && !follows.has(one.key));
    const names = left.filter((one) => one.type !== "date").map((one) => one.name.toLowerCase());
    if (left.some((one) => one.type === "date")) names.unshift("months");
    place.hidden = !names.length;
    place.textContent = names.length ? "Does not follow the choice of " + names.join(" and ") + "." : "";
  }

  // What is chosen shows at once, before anything is drawn.
  function tellChoice() {
    const active = page.filters.filter((one) => chosen[one.key]);
    document.getElementById("reset").disabled = !active.length;
    for (const one of page.filters) {
      const field = document.getElementById("filter-" + one.key);
      field.closest(".filter").classList.toggle("active", Boolean(chosen[one.key]));
    }
    const words = active.map((one) => one.name + ": " + (one.type === "date" ? monthName(chosen[one.key]) : chosen[one.key]));
    document.getElementById("chosen").textContent = words.length ? words.join(" · ") : "All countries, products and months";
  }

  let queue = Promise.resolve();
  let waiting = 0;

  // One after the other, so that a slow drawing never comes out on top of a later one.
  function showAll() {
    waiting += 1;
    tellChoice();
    document.body.dataset.state = "drawing";
    queue = queue.then(async () => {
      try {
        if (waiting === 1) await drawAll();
      } finally {
        waiting -= 1;
      }
    });
    return queue;
  }

  async function drawAll() {
    await Promise.all(page.tiles.map(show));
    if (waiting === 1) document.body.dataset.state = "ready";
  }

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const one of page.filters) {
      const field = document.getElementById("filter-" + one.key);
      const value = given.get(one.key) || "";
      field.value = value;
      chosen[one.key] = field.value === value ? value : "";
      if (field.value !== value) field.value = "";
    }
  }

  function writeAddress() {
    const given = new URLSearchParams();
    for (const one of page.filters) if (chosen[one.key]) given.set(one.key, chosen[one.key]);
    history.replaceState(null, "", "#" + given);
  }

  function choose(event) {
    chosen[event.target.name] = event.target.value;
    // A range that ends before it begins has nothing in it: the other end follows.
    const ends = dateFilters.map((one) => one.key);
    const lower = ends.find((key) => page.tiles.some((tile) => tile.bounds[key] === "lower"));
    const upper = ends.find((key) => page.tiles.some((tile) => tile.bounds[key] === "upper"));
    if (lower && upper && chosen[lower] && chosen[upper] && chosen[lower] > chosen[upper]) {
      const other = event.target.name === lower ? upper : lower;
      chosen[other] = event.target.value;
      document.getElementById("filter-" + other).value = event.target.value;
    }
    writeAddress();
    showAll();
  }

  // How fresh it is -------------------------------------------------------------------------------

  function moment(text) {
    if (!text) return "never";
    return new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short", timeZone: page.freshness.time_zone }).format(new Date(text));
  }

  function ago(text) {
    const seconds = (Date.now() - new Date(text)) / 1000;
    const steps = [[86400, "day"], [3600, "hour"], [60, "minute"]];
    for (const [size, unit] of steps) {
      if (seconds >= size) return new Intl.RelativeTimeFormat("en", { numeric: "always" }).format(-Math.floor(seconds / size), unit);
    }
    return "just now";
  }

  function tellFreshness() {
    const fresh = page.freshness;
    const place = document.getElementById("freshness");
    place.classList.toggle("stale", fresh.is_stale);
    place.textContent = fresh.complete_until ? "Complete until " + moment(fresh.complete_until) + (fresh.is_stale ? ", stale" : "") : "Not loaded yet";
    place.title = fresh.is_stale ? "Older than it should be when this page was written" : "Fresh when this page was written";
    const facts = [
      ["Complete until", fresh.complete_until ? moment(fresh.complete_until) + ", " + ago(fresh.complete_until) : "not loaded yet"],
      ["Last run", fresh.last_run_id ? "no. " + fresh.last_run_id + ", " + fresh.last_run_status + " " + moment(fresh.last_run_at) : "none yet"],
      ["Last successful run", fresh.last_successful_run_id ? "no. " + fresh.last_successful_run_id + ", " + moment(fresh.last_successful_run_at) : "none yet"],
      ["Page written", moment(fresh.read_at)],
      ["Today", moment(fresh.today + "T12:00:00Z").replace(/,.*/, "")],
      ["Time zone", fresh.time_zone],
      ["Amounts in", page.currency],
    ];
    document.getElementById("facts").replaceChildren(...facts.map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text))));
  }

  // Start -----------------------------------------------------------------------------------------

  function remembered(theme) {
    try {
      if (theme) localStorage.setItem("oceanrecords-theme", theme);
      return localStorage.getItem("oceanrecords-theme");
    } catch {
      return null;
    }
  }

  function start() {
    const root = document.documentElement;
    const theme = new URLSearchParams(location.search).get("theme") || remembered();
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    document.getElementById("theme").addEventListener("click", () => {
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = isDark ? "light" : "dark";
      remembered(root.dataset.theme);
    });
    document.getElementById("print").addEventListener("click", () => window.print());
    const form = document.getElementById("filters");
    form.addEventListener("change", choose);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => {
      for (const one of page.filters) chosen[one.key] = "";
      writeAddress();
      showAll();
    });
    window.addEventListener("hashchange", () => {
      readAddress();
      showAll();
    });
    tellFreshness();
    readAddress();
    unpack().then(showAll).catch((error) => {
      document.body.dataset.state = "failed";
      const told = element("p", { class: "empty" }, "The figures cannot be shown by this browser: " + error.message);
      document.getElementById("tiles").prepend(told);
      console.error(error);
    });
  }

  start();
})();
