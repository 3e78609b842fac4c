// Shows the answers that the page carries. A served page asks its server for the rest.
"use strict";
(function () {
  const page = JSON.parse(document.getElementById("data").textContent);
  const SEPARATOR = "\u001f";
  // Keys of the filters that are the first and the last day of the period.
  const ENDS = page.period;
  const DATES = [...ENDS, ...page.filters.filter((one) => one.type === "date").map((one) => one.key)];
  const LISTS = page.filters.filter((one) => one.type === "text").map((one) => one.key);
  const chosen = {};
  const shownRows = new Map();
  let bulk = null;

  // Formats ---------------------------------------------------------------------------------------

  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const NARROW = "\u202f";
  const formats = new Map();
  const MONEY = new Intl.NumberFormat("en-GB", { style: "currency", currency: page.currency, currencyDisplay: "narrowSymbol" });
  const CURRENCY = MONEY.formatToParts(1).find((part) => part.type === "currency").value;
  // None of yen.
  const CENTS = page.freshness.currency_decimals;

  function numberFormat(options) {
    const key = JSON.stringify(options);
    if (!formats.has(key)) formats.set(key, new Intl.NumberFormat("en-GB", options));
    return formats.get(key);
  }

  function number(value, decimals, more) {
    const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals, ...more };
    return numberFormat(options).format(value).replace(/-/g, "−");
  }

  const SIGNED = { signDisplay: "exceptZero" };
  const UNITS = { money: CURRENCY, change: CURRENCY, percent: "%", share: "%", points: "pp", hours: "h" };

  function format(value, column) {
    if (value === null || value === undefined || value === "") return "–";
    const decimals = ["money", "change"].includes(column.format) ? Math.min(column.decimals, CENTS) : column.decimals;
    switch (column.format) {
      case "percent": case "points": case "change": return number(value, decimals, SIGNED) + NARROW + UNITS[column.format];
      case "money": case "share": case "hours": return number(value, decimals) + NARROW + UNITS[column.format];
      case "number": return number(value, decimals);
      case "boolean": return value ? "yes" : "no";
      case "month": return monthName(value);
      case "date": return dayName(value);
      default: return String(value);
    }
  }

  function monthName(day) {
    return MONTHS[Number(day.slice(5, 7)) - 1] + " " + day.slice(0, 4);
  }

  function withUnit(value, unit, column) {
    if (value === null) return "–";
    if (unit === page.currency) return number(value, Math.abs(value) >= 10000 ? 0 : Math.min(column.decimals, CENTS)) + NARROW + CURRENCY;
    if (unit === "pp") return number(value, column.decimals, SIGNED) + NARROW + "pp";
    if (unit === "hours") return number(value, 1) + NARROW + "h";
    return number(value, column.decimals) + (unit ? " " + unit : "");
  }

  // Three significant digits and the unit: 957k €.
  function brief(value, column) {
    if (value === null) return "";
    const text = numberFormat({ notation: "compact", maximumSignificantDigits: 3 }).format(value).replace(/-/g, "−").replace("K", "k").replace(/m$/, "M");
    const unit = UNITS[column.format];
    return unit ? text + NARROW + unit : text;
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

  function addMonths(day, months) {
    const moment = new Date(day.slice(0, 8) + "01T00:00:00Z");
    moment.setUTCMonth(moment.getUTCMonth() + months);
    return moment.toISOString().slice(0, 10);
  }

  function lengthOf(kind) {
    return kind === "quarter" ? 3 : 1;
  }

  function isRunning(day, kind) {
    return ["month", "quarter"].includes(kind) && addMonths(day, lengthOf(kind)) > page.freshness.whole_until;
  }

  // Answers ---------------------------------------------------------------------------------------

  function days() {
    return ENDS.map((key) => chosen[key]);
  }

  // The rows of a tile; null if the page does not carry them.
  function rowsOf(tile) {
    const values = tile.choices.map((key) => [chosen[key]].flat());
    if (values.some((one) => one.length > 1)) return null;
    const rows = bulk.answers[tile.key][values.map((one) => one[0] || "").join(SEPARATOR)];
    return rows === undefined ? null : within(tile, rows);
  }

  function within(tile, rows) {
    if (!tile.cuts) return rows;
    const [first, last] = days();
    const axis = columnOf(tile, tile.x);
    return rows.filter((row) => {
      const day = periodStart(row[axis.index], axis.format);
      return (!first || day >= truncated(first, axis.format)) && (!last || day <= last);
    });
  }

  const asked = new Map();

  async function ask(tile) {
    const query = new URLSearchParams({ question: tile.key });
    for (const key of tile.choices) for (const value of [chosen[key]].flat()) if (value) query.append(key, value);
    const address = "answer?" + query;
    if (!asked.has(address)) {
      asked.set(address, fetch(address).then((answer) => {
        if (!answer.ok) throw new Error("the server answers with status " + answer.status);
        return answer.json();
      }));
    }
    try {
      return within(tile, await asked.get(address));
    } catch (error) {
      asked.delete(address);
      throw error;
    }
  }

  function columnOf(tile, name) {
    const index = tile.columns.findIndex((column) => column.name === name);
    return index < 0 ? null : { ...tile.columns[index], index };
  }

  // The browser undoes the compression itself.
  async function unpack() {
    const packed = Uint8Array.from(atob(document.getElementById("bulk").textContent), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    bulk = await new Response(stream).json();
    LISTS.forEach(fillOptions);
  }

  // A file has the answers to one value at a time. A long list has a field to search in.
  function fillOptions(key) {
    const list = document.querySelector("#filter-" + key + " .options");
    const values = page.is_served ? bulk.values[key] : ["", ...bulk.values[key]];
    const type = page.is_served ? "checkbox" : "radio";
    const rows = values.map((value) => element("label", {}, element("input", { type, name: key, value }), " " + (value || "All")));
    list.replaceChildren(...rows);
    if (rows.length <= 15) return;
    const field = element("input", { type: "search", placeholder: "Search", "aria-label": "Search " + nameOf(key) });
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(words);
    });
    list.prepend(field);
  }

  // Elements --------------------------------------------------------------------------------------

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function drawing(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function cell(value, shown, attributes, name) {
    return element(name || "td", { "data-value": JSON.stringify(value), ...attributes }, ...[shown].flat());
  }

  function isText(column) {
    return ["text", "sparkline", "boolean", "month", "quarter", "date"].includes(column.format);
  }

  function indexed(tile) {
    return tile.columns.map((column, index) => ({ ...column, index }));
  }

  // Tables ----------------------------------------------------------------------------------------

  function plainTable(tile, rows, visible) {
    const head = element("tr", {}, ...visible.map((column) => element("th", { scope: "col", class: isText(column) ? "text" : null }, column.title)));
    const body = rows.map((row) => element("tr", {}, ...visible.map((column, n) => {
      const value = row[column.index];
      const attributes = { class: isText(column) ? "text" : null, scope: n ? null : "row" };
      const isPick = clickOf(tile, column) && value !== null;
      const shown = isPick ? choiceButton(tile.click.filter, value, format(value, column)) : format(value, column);
      return cell(value, shown, attributes, n ? "td" : "th");
    })));
    return table(tile, "", head, body);
  }

  function table(tile, kind, head, body) {
    return element("table", { class: kind, "aria-labelledby": "name-" + tile.key }, element("thead", {}, head), element("tbody", {}, ...body));
  }

  // The KPIs: large values, signs and colours by whether up is good, and a line of the months.
  function figures(tile, rows) {
    const at = Object.fromEntries(tile.columns.map((column, index) => [column.name, index]));
    const get = (row, name) => (name in at ? row[at[name]] : null);
    const titled = (name) => tile.columns[at[name]].title;
    const shape = (name) => tile.columns[at[name]];
    const values = ["month_to_date", "last_month", "monthly_average"].filter((name) => name in at);
    const head = element("tr", {},
      element("th", { scope: "col" }, titled("kpi")),
      ...values.map((name) => element("th", { scope: "col" }, titled(name))),
      element("th", { scope: "col" }, titled("growth_percent")),
      element("th", { scope: "col", class: "trend text" }, titled("trend")));
    const notes = new Set();
    const body = rows.map((row) => {
      const unit = get(row, "unit");
      const note = get(row, "note");
      const isEarly = note && note.startsWith("No full day yet");
      if (note && note !== "No full day yet") notes.add(note);
      const cells = values.map((name, n) => {
        const value = get(row, name);
        const isProvisional = name === "month_to_date" ? get(row, "is_provisional") : name === "last_month" && get(row, "is_last_month_provisional");
        const shown = [element("span", {}, value === null && n === 0 ? (isEarly ? "no full day yet" : "–") : withUnit(value, unit, shape(name)))];
        if (isProvisional && value !== null) {
          shown.push(element("abbr", { class: "provisional", title: "Provisional: orders of this month may still be lost" }, "prov."));
          if (n === 0 && get(row, "expected") !== null) {
            shown.push(element("small", {}, "expected " + withUnit(get(row, "expected"), unit, shape(name))));
          }
        }
        return cell(value, shown, { class: (n ? "quiet" : "lead") + (value === null ? " none" : ""), "data-title": titled(name) });
      });
      const isShare = unit === "pp";
      const name = isShare ? "change_points" : "growth_percent";
      const change = get(row, name);
      const attributes = { class: "growth", "data-title": titled("growth_percent") };
      if (change) attributes.class += (change > 0 ? " up-" : " down-") + ((change > 0) === get(row, "is_up_good") ? "good" : "bad");
      attributes.title = changeWords(change, get(row, "is_up_good"));
      const text = change ? (change > 0 ? "▲ " : "▼ ") + format(Math.abs(change), shape(name)).replace("+", "") : format(change, shape(name));
      return element("tr", {},
        cell(get(row, "kpi"), get(row, "kpi"), { scope: "row" }, "th"),
        ...cells,
        cell(change, text, attributes),
        cell(get(row, "trend"), sparkline(get(row, "trend_values") || [], row, at, shape("month_to_date")), { class: "trend", "data-title": titled("trend") }));
    });
    return [table(tile, "figures", head, body), ...[...notes].map((note) => element("p", { class: "note" }, note + "."))];
  }

  function changeWords(value, isUpGood) {
    if (value === null) return "Nothing to compare with";
    if (!value) return "Unchanged";
    return (value > 0 ? "Up" : "Down") + ((value > 0) === isUpGood ? ", which is good" : ", which is not good");
  }

  function sparkline(values, row, at, shape) {
    const known = values.filter((value) => value !== null);
    const low = Math.min(...known);
    const span = Math.max(...known) - low;
    const step = values.length > 1 ? 100 / (values.length - 1) : 0;
    const points = values.map((value, n) => (value === null ? null : [n * step, span ? 26 - (22 * (value - low)) / span : 15]));
    const label = known.length ? "Trend of " + values.length + " months, oldest first: " + values.map((value) => (value === null ? "none" : number(value, 1))).join(", ") : "No trend yet";
    const svg = drawing("svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": label });
    let path = "";
    points.forEach((point, n) => {
      if (point) path += (points[n - 1] ? "L" : "M") + point[0].toFixed(1) + " " + point[1].toFixed(1);
    });
    if (path && points.every(Boolean) && points.length > 1) svg.append(drawing("path", { class: "under", d: path + "L100 30L0 30Z" }));
    svg.append(drawing("path", { d: path }));
    if (points.length) {
      svg.addEventListener("pointermove", (event) => {
        const box = svg.getBoundingClientRect();
        const n = Math.min(values.length - 1, Math.max(0, Math.round((event.clientX - box.left) / box.width * (values.length - 1))));
        const month = addMonths(page.freshness.whole_until, n - values.length);
        tell(event, monthName(month), [[row[at.kpi], withUnit(values[n], row[at.unit], shape)]]);
      });
      svg.addEventListener("pointerleave", hush);
    }
    return svg;
  }

  function cards(tile, rows) {
    const at = Object.fromEntries(tile.columns.map((column, index) => [column.name, index]));
    return element("div", { class: "cards" }, ...rows.map((row) => {
      const get = (name) => row[at[name]];
      const shape = (name) => tile.columns[at[name]];
      const value = get("sales");
      const change = get("change_percent");
      const lines = [element("p", { class: "card-period" }, get("period"))];
      if (value !== null) lines.push(element("p", { class: "card-value" }, format(value, shape("sales"))));
      else lines.push(element("p", { class: "card-value none" }, get("note") || "–"));
      if (change !== null) {
        lines.push(element("p", { class: "card-change" },
          element("b", { class: change > 0 ? "up-good" : change < 0 ? "down-bad" : "" }, (change > 0 ? "▲ " : change < 0 ? "▼ " : "") + format(Math.abs(change), shape("change_percent")).replace("+", "")),
          (get("compared_to") === "month to date" ? " month to date against this target" : " against " + get("compared_to") + " (" + format(get("compared_with"), shape("compared_with")) + ")")));
      }
      if (value !== null && get("note")) lines.push(element("p", { class: "card-note" }, get("note") + "."));
      return element("article", { class: "card" }, element("h3", {}, get("headline")), ...lines);
    }));
  }

  function isPicked(key, value) {
    return [chosen[key]].flat().includes(value);
  }

  // The filter that a click on a value sets, if the page offers it.
  function clickOf(tile, column) {
    const { filter } = (tile.click && tile.click.column === column.name && tile.click) || {};
    return page.filters.some((one) => one.key === filter) ? filter : null;
  }

  function choiceButton(dimension, value, shown) {
    const button = element("button", { type: "button", class: "pick", title: "Show only " + value, "aria-pressed": String(isPicked(dimension, value)) }, shown);
    button.addEventListener("click", () => toggle(dimension, value));
    return button;
  }

  function isMoving(tile) {
    return tile.columns.some((column) => column.format === "change");
  }

  function ranking(tile, rows) {
    const visible = indexed(tile).filter((column) => !column.hidden);
    const pick = clickOf(tile, visible[0]);
    const isMovement = isMoving(tile);
    const bar = visible.find((column) => column.bar || column.format === "change");
    const most = bar ? Math.max(...rows.map((row) => Math.abs(row[bar.index])), 0) : 0;
    const kind = (column) => (column === bar ? "major" : isText(column) ? "text" : "minor minor-" + column.name);
    const head = element("tr", {}, ...visible.map((column) => element("th", { scope: "col", class: kind(column) }, column.title)));
    const body = rows.map((row, place) => element("tr", {}, ...visible.map((column, n) => {
      const value = row[column.index];
      const shown = format(value, column);
      if (n === 0) {
        const part = bar && most ? Math.abs(row[bar.index]) / most : 0;
        const direction = isMovement ? (row[bar.index] < 0 ? " loss" : " gain") : "";
        const inner = pick ? choiceButton(pick, value, shown) : element("span", {}, shown);
        const name = element("span", { class: "name" + direction, style: "--part:" + part.toFixed(4) }, inner);
        const number = isMovement || column.format !== "text" ? null : element("span", { class: "place", "aria-hidden": "true" }, String(place + 1));
        return element("th", { scope: "row", "data-value": JSON.stringify(value) }, number, name);
      }
      const sign = column.format === "change" ? (value > 0 ? " up-good" : " down-bad") : "";
      return cell(value, shown, { class: kind(column) + sign });
    })));
    const made = [table(tile, "ranking", head, body)];
    const period = columnOf(tile, "period");
    if (period && rows.length) made.push(element("p", { class: "note" }, rows[0][period.index] + "."));
    return made;
  }

  // The tooltip -----------------------------------------------------------------------------------

  const tip = document.getElementById("tooltip");

  function tell(event, title, lines) {
    tip.replaceChildren(element("b", {}, title), ...lines.map(([name, value]) => element("div", {}, element("span", {}, name), element("strong", {}, value))));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = event.clientX + 16 + box.width > innerWidth ? event.clientX - 16 - box.width : event.clientX + 16;
    const top = event.clientY + 16 + box.height > innerHeight ? event.clientY - 12 - box.height : event.clientY + 16;
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.max(4, top) + "px";
  }

  function hush() {
    tip.hidden = true;
  }

  // Charts ----------------------------------------------------------------------------------------

  const STATES = { running: "still running", provisional: "provisional, orders may still be lost" };

  function niceTicks(low, high, count) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
    const ticks = [];
    for (let n = Math.floor(low / step); n <= Math.ceil(high / step); n++) ticks.push(Number((n * step).toPrecision(12)));
    return ticks;
  }

  function periods(tile, rows) {
    const axis = columnOf(tile, tile.x);
    const state = columnOf(tile, "state");
    return rows.map((row) => {
      const day = ["month", "quarter", "date"].includes(axis.format) ? periodStart(row[axis.index], axis.format) : null;
      const told = state ? row[state.index] : day && isRunning(day, axis.format) ? "running" : "final";
      return { row, day, state: told, name: format(row[axis.index], axis), label: String(row[axis.index]) };
    });
  }

  function draw(tile, place, rows) {
    const width = Math.max(place.clientWidth, 220);
    const height = Math.max(place.clientHeight, 200);
    const isBar = tile.display === "bar" || tile.display === "row";
    const axis = columnOf(tile, tile.x);
    const series = tile.y.map((name) => columnOf(tile, name));
    const points = periods(tile, rows);
    const values = points.flatMap((point) => series.map((column) => point.row[column.index])).filter((value) => value !== null);
    if (tile.goal) values.push(tile.goal.value);
    if (isBar) values.push(0);
    const isLabelled = isBar && (width - 10) / points.length >= 46;
    const ticks = niceTicks(Math.min(...values), Math.max(...values), 4);
    const low = isBar ? Math.min(0, ticks[0]) : ticks[0];
    const high = isLabelled ? Math.max(...values) * 1.02 : ticks[ticks.length - 1];
    const shown = ticks.map((tick) => brief(tick, series[0]));
    const left = isLabelled ? 4 : 12 + 6.4 * Math.max(...shown.map((text) => text.length));
    const [top, right, bottom] = [isLabelled ? 22 : 10, 10, 38];
    const inner = width - left - right;
    const y = (value) => top + (height - top - bottom) * (1 - (value - low) / (high - low || 1));
    const slot = inner / Math.max(points.length, 1);
    const x = (n) => (isBar ? left + slot * (n + 0.5) : left + (points.length > 1 ? (inner * n) / (points.length - 1) : inner / 2));
    const svg = drawing("svg", { viewBox: "0 0 " + width + " " + height, width, height, "aria-hidden": "true" });

    if (!isLabelled) {
      const grid = drawing("g", { class: "grid-lines" });
      ticks.forEach((tick, n) => {
        if (y(tick) < top - 1) return;
        grid.append(drawing("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
        grid.append(drawing("text", { class: "mark-text", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, shown[n]));
      });
      svg.append(grid);
    }
    svg.append(periodAxis(points, axis, x, isBar ? slot : inner / Math.max(points.length - 1, 1), height - bottom + 20));
    if (isBar) svg.append(drawing("line", { class: "base", x1: left, x2: width - right, y1: y(0), y2: y(0) }));
    else if (!tile.goal && low < 0 && high > 0) svg.append(drawing("line", { class: "base", x1: left, x2: width - right, y1: y(0), y2: y(0) }));
    if (tile.goal) {
      svg.append(drawing("g", { class: "mark-rule goal" }, drawing("line", { x1: left, x2: width - right, y1: y(tile.goal.value), y2: y(tile.goal.value) })));
    }
    if (isBar) svg.append(...bars(points, series[0], x, y, slot, isLabelled));
    else series.forEach((column, n) => svg.append(...line(points, column, x, y, styleOf(tile, n), slot)));

    const cursor = drawing("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
    svg.append(cursor);
    const nearest = (event) => {
      const at = (event.clientX - svg.getBoundingClientRect().left) * (width / svg.getBoundingClientRect().width);
      const n = isBar ? Math.floor((at - left) / slot) : Math.round(((at - left) / inner) * (points.length - 1));
      return Math.min(points.length - 1, Math.max(0, n || 0));
    };
    svg.addEventListener("pointermove", (event) => {
      const n = nearest(event);
      const point = points[n];
      svg.classList.toggle("pickable", Boolean(periodOf(point, axis)));
      if (!isBar) for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(n));
      if (!isBar) cursor.setAttribute("visibility", "visible");
      const lines = series.filter((column) => point.row[column.index] !== null).map((column) => [column.title, format(point.row[column.index], column)]);
      if (!lines.length) lines.push([series[0].title, "none"]);
      tell(event, point.name + (STATES[point.state] ? ", " + STATES[point.state] : ""), lines);
    });
    svg.addEventListener("pointerleave", () => {
      hush();
      cursor.setAttribute("visibility", "hidden");
    });
    svg.addEventListener("click", (event) => pickPeriod(periodOf(points[nearest(event)], axis)));
    return svg;
  }

  // Labels that do not touch; the year stands below its first month, and alone where there are many years.
  function periodAxis(points, axis, x, slot, y) {
    const group = drawing("g", { class: "axis" });
    if (axis.format !== "month" && axis.format !== "quarter") {
      const step = Math.ceil(54 / slot);
      points.forEach((point, n) => {
        if (n % step === 0) group.append(drawing("text", { class: "mark-text", x: x(n), y, "text-anchor": "middle" }, point.name));
      });
      return group;
    }
    const length = lengthOf(axis.format);
    const step = [1, 2, 3, 6, 12, 24, 60, 120].find((one) => one % length === 0 && (one / length) * slot >= 34) || 120;
    let year = null;
    points.forEach((point, n) => {
      const months = Number(point.day.slice(0, 4)) * 12 + Number(point.day.slice(5, 7)) - 1;
      if (months % step !== 0 && !(points.length === 1)) return;
      const own = point.day.slice(0, 4);
      const text = step >= 12 ? own : axis.format === "quarter" ? point.label.slice(5) : MONTHS[months % 12];
      group.append(drawing("text", { class: "mark-text", x: x(n), y, "text-anchor": "middle" }, text));
      if (step < 12 && own !== year) group.append(drawing("text", { class: "mark-text year", x: x(n), y: y + 15, "text-anchor": "middle" }, own));
      year = own;
    });
    return group;
  }

  function bars(points, column, x, y, slot, isLabelled) {
    const group = drawing("g", { class: "mark-rect" });
    const labels = drawing("g", { class: "mark-text bar-labels" });
    const width = Math.min(slot * 0.72, 74);
    points.forEach((point, n) => {
      const value = point.row[column.index];
      if (value === null) return;
      const [from, to] = [x(n) - width / 2, x(n) + width / 2];
      const [head, foot] = [y(Math.max(value, 0)), y(Math.min(value, 0))];
      const round = Math.min(4, (foot - head) / 2, width / 2);
      const path = "M" + from + " " + foot + "V" + (head + round) + "Q" + from + " " + head + " " + (from + round) + " " + head +
        "H" + (to - round) + "Q" + to + " " + head + " " + to + " " + (head + round) + "V" + foot + "Z";
      group.append(drawing("path", { class: "bar " + point.state, d: path }));
      if (isLabelled) labels.append(drawing("text", { x: x(n), y: head - 7, "text-anchor": "middle" }, brief(value, column)));
    });
    return [group, labels];
  }

  function line(points, column, x, y, style, slot) {
    const segments = { solid: "", dashed: "" };
    const dots = drawing("g", { class: "mark-symbol " + style });
    points.forEach((point, n) => {
      const value = point.row[column.index];
      if (value === null) return;
      const before = n ? points[n - 1].row[column.index] : null;
      const kind = point.state === "final" ? "solid" : "dashed";
      if (before !== null) segments[kind] += "M" + x(n - 1).toFixed(1) + " " + y(before).toFixed(1) + "L" + x(n).toFixed(1) + " " + y(value).toFixed(1);
      const isAlone = before === null && (n === points.length - 1 || points[n + 1].row[column.index] === null);
      if (style === "series" ? points.length <= 30 || point.state !== "final" || isAlone : isAlone || column.name.startsWith("expected")) {
        const [cx, cy, r] = [x(n), y(value), 3.4];
        const path = "M" + (cx - r) + " " + cy + "a" + r + " " + r + " 0 1 0 " + 2 * r + " 0a" + r + " " + r + " 0 1 0 " + -2 * r + " 0Z";
        dots.append(drawing("path", { class: point.state, d: path }));
      }
    });
    return [
      drawing("g", { class: "mark-line " + style }, drawing("path", { d: segments.solid }), drawing("path", { class: "dashed", d: segments.dashed })),
      dots,
    ];
  }

  // The colour of limits is that of the goal, or of the second line where there is none.
  function styleOf(tile, n) {
    return n === 0 ? "series" : n === 1 && !tile.goal ? "limit" : "third";
  }

  function legend(tile) {
    if (tile.y.length < 2 && !tile.goal) return null;
    const lines = tile.y.map((name, n) => element("span", { class: styleOf(tile, n) }, columnOf(tile, name).title));
    if (tile.goal) lines.push(element("span", { class: "limit" }, tile.goal.label));
    return element("p", { class: "legend", "aria-hidden": "true" }, ...lines);
  }

  function summary(tile, rows) {
    const column = columnOf(tile, tile.y[0]);
    const known = periods(tile, rows).filter((point) => point.row[column.index] !== null);
    if (!known.length) return tile.name + ": no values.";
    const last = known[known.length - 1];
    return tile.name + ", " + (tile.display === "bar" ? "bar" : "line") + " chart from " + known[0].name + " to " + last.name +
      ". Latest: " + format(last.row[column.index], column) + (STATES[last.state] ? ", " + STATES[last.state] : "") + ".";
  }

  function chart(tile, body, rows) {
    const frame = element("div", { class: "chart", role: "img", "aria-label": summary(tile, rows) });
    body.replaceChildren(...[legend(tile), frame].filter(Boolean));
    frame.append(draw(tile, frame, rows));
  }

  // The page --------------------------------------------------------------------------------------

  function hasValues(tile, rows) {
    const { index } = columnOf(tile, tile.y[0]);
    return rows.some((row) => row[index] !== null);
  }

  async function show(tile) {
    const section = document.getElementById("tile-" + tile.key);
    const body = section.querySelector(".body");
    tellScope(tile, section.querySelector(".scope"));
    let rows = rowsOf(tile);
    let trouble = null;
    try {
      rows = rows || await ask(tile);
    } catch (error) {
      trouble = "The server cannot be asked: " + error.message + ".";
    }
    shownRows.set(tile.key, rows || []);
    if (trouble) body.replaceChildren(element("p", { class: "empty" }, trouble));
    else render(tile, body, rows);
    const numbers = section.querySelector(".numbers");
    if (numbers) numbers.replaceChildren(plainTable(tile, rows || [], indexed(tile).filter((column) => !column.hidden)));
  }

  function render(tile, body, rows) {
    const isChart = !["table", "cards"].includes(tile.display);
    if (!rows.length) body.replaceChildren(element("p", { class: "empty" }, isMoving(tile) ? "No two full periods to compare." : "Nothing for this choice."));
    else if (tile.display === "cards") body.replaceChildren(cards(tile, rows));
    else if (isChart && !hasValues(tile, rows)) body.replaceChildren(element("p", { class: "empty" }, "No values yet."));
    else if (isChart) chart(tile, body, rows);
    else if (tile.columns.some((column) => column.name === "trend_values")) body.replaceChildren(...figures(tile, rows));
    else if (tile.columns.some((column) => column.bar || column.format === "change")) body.replaceChildren(...ranking(tile, rows));
    else body.replaceChildren(element("div", { class: "wide", tabindex: "0", role: "group", "aria-label": tile.name }, plainTable(tile, rows, indexed(tile).filter((column) => !column.hidden))));
  }

  // A tile that does not follow a choice says so.
  function tellScope(tile, place) {
    const follows = new Set([...tile.choices, ...(tile.cuts ? ENDS : [])]);
    const names = page.filters.filter((one) => isChosen(one.key) && !follows.has(one.key)).map((one) => one.name.toLowerCase());
    if (ENDS.some((key) => isChosen(key) && !follows.has(key))) names.unshift("period");
    const words = names.length ? ["Does not follow the choice of " + names.join(" and ") + "."] : [];
    if (tile.cuts && !isOfMonths(days())) words.push("Shows whole periods.");
    place.hidden = !words.length;
    place.textContent = words.join(" ");
  }

  function nameOf(key) {
    return page.filters.find((one) => one.key === key).name;
  }

  function isChosen(key) {
    return Array.isArray(chosen[key]) ? chosen[key].length > 0 : Boolean(chosen[key]);
  }

  // A field of months shows a single day as an entry of its own.
  function tellDay(field, day) {
    for (const option of field.querySelectorAll(".day")) option.remove();
    if (day && ![...field.options].some((option) => option.value === day)) {
      field.append(element("option", { class: "day", value: day }, dayName(day)));
    }
    field.value = day;
  }

  function dayName(day) {
    return Number(day.slice(8, 10)) + " " + monthName(day);
  }

  function isOfMonths([first, last]) {
    const next = last && new Date(Date.parse(last) + 86400000).toISOString();
    return (!first || first.endsWith("-01")) && (!last || next.slice(8, 10) === "01");
  }

  // The page with the orders behind a tile: of the chosen countries, and of the month if the tile shows one.
  function tellOrders() {
    for (const link of document.querySelectorAll("[data-orders]")) {
      const tile = page.tiles.find((one) => one.key === link.dataset.orders);
      link.hidden = !page.orders || !tile.choices.includes("country");
      if (link.hidden) continue;
      const query = new URLSearchParams();
      for (const value of chosen.country) query.append("country", value);
      const follows = tile.cuts || ENDS.some((key) => tile.choices.includes(key));
      const [first, last] = follows ? days() : [page.freshness.today, page.freshness.today];
      if (first && last && truncated(first, "month") === truncated(last, "month")) query.set("month", truncated(first, "month"));
      link.href = page.orders + (query.size ? (page.orders.includes("?") ? "&" : "?") + query : "");
    }
  }

  // What is chosen shows at once, before anything is drawn.
  function tellChoice() {
    const active = page.filters.filter((one) => isChosen(one.key));
    for (const one of page.filters) {
      const field = document.getElementById("filter-" + one.key);
      field.closest(".filter").classList.toggle("active", isChosen(one.key));
      if (one.type === "date") field.value = chosen[one.key];
      else {
        const values = chosen[one.key];
        for (const box of field.querySelectorAll("input[name]")) box.checked = box.value ? values.includes(box.value) : !values.length;
        document.getElementById("said-" + one.key).textContent = values.length > 1 ? values.length + " chosen" : values[0] || "All";
      }
    }
    tellPeriod();
    tellOrders();
    const words = active.map((one) => one.name + ": " + (one.type === "date" ? monthName(chosen[one.key]) : chosen[one.key].join(", ")));
    if (ENDS.some(isChosen)) words.unshift("Period: " + periodName(days()));
    document.getElementById("reset").disabled = !words.length;
    document.getElementById("chosen").textContent = words.length ? words.join(" · ") : "All there is";
  }

  function periodName([first, last]) {
    const known = page.periods.find((one) => one.first === first && one.last === last);
    if (known) return known.name;
    return [first && "from " + dayName(first), last && "to " + dayName(last)].filter(Boolean).join(" ");
  }

  function tellPeriod() {
    if (!ENDS.length) return;
    const field = document.getElementById("period");
    const value = days().join();
    for (const option of field.querySelectorAll(".custom")) option.remove();
    if (![...field.options].some((option) => option.value === value)) field.append(element("option", { class: "custom", value }, "Custom"));
    field.value = value;
    field.closest(".filter").classList.toggle("active", ENDS.some(isChosen));
    for (const key of page.is_served ? ENDS : []) {
      const end = document.getElementById("filter-" + key);
      end.closest(".filter").classList.toggle("active", isChosen(key));
      tellDay(end, chosen[key]);
    }
  }

  let queue = Promise.resolve();
  let waiting = 0;

  // One after the other, so that a slow drawing never comes out on top of a later one.
  function showAll() {
    waiting += 1;
    tellChoice();
    hush();
    document.body.dataset.state = "drawing";
    queue = queue.then(async () => {
      try {
        if (waiting === 1) await Promise.all(page.tiles.map(show));
      } finally {
        waiting -= 1;
        if (!waiting) document.body.dataset.state = "ready";
      }
    });
    return queue;
  }

  function changed() {
    writeAddress();
    return showAll();
  }

  function toggle(key, value) {
    if (DATES.includes(key)) chosen[key] = isPicked(key, value) ? "" : value;
    else chosen[key] = isPicked(key, value) ? chosen[key].filter((one) => one !== value) : [value];
    changed();
  }

  // The period of a point of a chart, if the page offers it.
  function periodOf(point, axis) {
    return page.periods.find((one) => one.kind === axis.format && one.first === point.day);
  }

  function pickPeriod(period) {
    if (!period) return;
    const isSame = days().join() === [period.first, period.last].join();
    ENDS.forEach((key, n) => { chosen[key] = isSame ? "" : [period.first, period.last][n]; });
    changed();
  }

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const [name, value] of new URLSearchParams(location.search)) given.append(name, value);
    const isOption = (key, value) => [...document.getElementById("filter-" + key).options].some((option) => option.value === value);
    const ends = ENDS.map((key) => given.get(key) || "");
    const isOffered = page.periods.some((one) => one.first === ends[0] && one.last === ends[1]);
    ENDS.forEach((key, n) => { chosen[key] = isOffered || (page.is_served && isOption(key, ends[n])) ? ends[n] : ""; });
    for (const key of DATES.filter((one) => !ENDS.includes(one))) chosen[key] = isOption(key, given.get(key)) ? given.get(key) : "";
    for (const key of LISTS) chosen[key] = given.getAll(key).filter((value) => bulk.values[key].includes(value)).slice(0, page.is_served ? undefined : 1);
  }

  function writeAddress() {
    const given = new URLSearchParams();
    for (const key of DATES) if (chosen[key]) given.set(key, chosen[key]);
    for (const key of LISTS) for (const value of chosen[key]) given.append(key, value);
    history.replaceState(null, "", "#" + given);
  }

  function choose(event) {
    const field = event.target;
    if (field.id === "period") {
      field.value.split(",").forEach((day, n) => { chosen[ENDS[n]] = day; });
    } else if (field.type === "search") {
      return;
    } else if (LISTS.includes(field.name)) {
      const boxes = document.querySelectorAll("#filter-" + field.name + " input:checked");
      chosen[field.name] = [...boxes].map((box) => box.value).filter(Boolean);
    } else {
      chosen[field.name] = field.value;
      // A range that ends before it begins has nothing in it: the other end follows.
      const [first, last] = days();
      if (first && last && first > last) {
        const month = page.periods.find((one) => one.kind === "month" && [one.first, one.last].includes(field.value));
        ENDS.forEach((key, n) => { chosen[key] = [month.first, month.last][n]; });
      }
    }
    changed();
  }

  // CSV -------------------------------------------------------------------------------------------

  function csvOf(key) {
    const tile = page.tiles.find((one) => one.key === key);
    // A text that begins like a formula is not one for a spreadsheet.
    const quoted = (value) => {
      if (value === null || value === undefined) return "";
      const text = Array.isArray(value) ? value.join(" ") : String(value);
      const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
      return /[",\r\n]/.test(safe) ? '"' + safe.replace(/"/g, '""') + '"' : safe;
    };
    const lines = [tile.columns.map((column) => column.name), ...shownRows.get(key)];
    return lines.map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  }

  function saveCsv(key) {
    const link = element("a", { download: key + ".csv", href: URL.createObjectURL(new Blob(["\ufeff" + csvOf(key)], { type: "text/csv" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
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
      ["Today", Number(fresh.today.slice(8, 10)) + " " + monthName(fresh.today)],
      ["Days in time zone", fresh.time_zone],
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

  function redrawCharts() {
    for (const tile of page.tiles) {
      if (["table", "cards"].includes(tile.display) || !shownRows.has(tile.key)) continue;
      const body = document.querySelector("#tile-" + tile.key + " .body");
      if (body.querySelector(".chart")) render(tile, body, shownRows.get(tile.key));
    }
  }

  function start() {
    const root = document.documentElement;
    const theme = new URLSearchParams(location.search).get("theme") || remembered();
    const system = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => { root.dataset.theme = system.matches ? "dark" : "light"; };
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    else {
      follow();
      system.addEventListener("change", () => { if (!remembered()) follow(); });
    }
    document.getElementById("theme").addEventListener("click", () => {
      root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
      remembered(root.dataset.theme);
    });
    document.getElementById("print").addEventListener("click", () => window.print());
    const form = document.getElementById("filters");
    form.addEventListener("change", choose);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      for (const key of Object.keys(chosen)) chosen[key] = Array.isArray(chosen[key]) ? [] : "";
      changed();
    });
    document.addEventListener("click", (event) => {
      for (const list of document.querySelectorAll("details.multi[open]")) if (!list.contains(event.target)) list.open = false;
      const save = event.target.closest && event.target.closest("[data-csv]");
      if (save) saveCsv(save.dataset.csv);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      hush();
      for (const list of document.querySelectorAll("details.multi[open]")) {
        list.open = false;
        list.querySelector("summary").focus();
      }
    });
    window.addEventListener("scroll", hush, { passive: true });
    let width = innerWidth;
    let timer = 0;
    window.addEventListener("resize", () => {
      if (innerWidth === width) return;
      width = innerWidth;
      clearTimeout(timer);
      timer = setTimeout(redrawCharts, 120);
    });
    window.addEventListener("hashchange", () => {
      readAddress();
      showAll();
    });
    tellFreshness();
    unpack().then(() => {
      readAddress();
      return showAll();
    }).catch((error) => {
      document.body.dataset.state = "failed";
      const told = element("p", { class: "empty" }, "The figures cannot be shown by this browser: " + error.message);
      document.getElementById("tiles").prepend(told);
      console.error(error);
    });
  }

  start();
})();
