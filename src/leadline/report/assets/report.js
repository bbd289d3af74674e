// The report's behaviour: figures, theme, legends, tabs, sorting, saving. Everything also reads without it.
(function () {
  "use strict";
  var root = document.documentElement;
  var darkOf = JSON.parse(document.getElementById("leadline-dark").textContent);
  var media = window.matchMedia("(prefers-color-scheme: dark)");
  var printing = false;
  var narrowAt = 560;
  var all = function (selector, from) { return Array.prototype.slice.call((from || document).querySelectorAll(selector)); };

  // Theme

  function theme() {
    if (printing) return "light";
    return root.dataset.theme || (media.matches ? "dark" : "light");
  }

  var themeButton = document.getElementById("theme");
  function showTheme() {
    var dark = theme() === "dark";
    themeButton.setAttribute("aria-pressed", String(dark));
    themeButton.setAttribute("aria-label", dark ? "Dark theme, switch to light" : "Light theme, switch to dark");
    themeButton.querySelector(".theme-name").textContent = dark ? "Light" : "Dark";
  }
  themeButton.addEventListener("click", function () {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    try { localStorage.setItem("leadline-theme", root.dataset.theme); } catch (error) { /* not kept, still switched */ }
    showTheme();
    redraw();
  });
  media.addEventListener("change", function () { showTheme(); redraw(); });
  showTheme();

  // Figures are built in light colours; the dark theme exchanges each by its partner.
  function themed(value) {
    if (Array.isArray(value)) return value.map(themed);
    if (value && typeof value === "object") {
      var copy = {};
      Object.keys(value).forEach(function (key) { copy[key] = themed(value[key]); });
      return copy;
    }
    return typeof value === "string" && theme() === "dark" && Object.prototype.hasOwnProperty.call(darkOf, value) ? darkOf[value] : value;
  }

  // Figures

  var plots = all("figure.plot").map(function (element) {
    return {
      element: element,
      canvas: element.querySelector(".canvas"),
      figure: JSON.parse(element.querySelector(".figure-data").textContent),
      hidden: {},
      drawnAt: 0
    };
  });

  // Names at the right of the lines, pushed apart so that none covers another; room is what is left of the width.
  function placeLabels(layout, labels, scale) {
    var size = 12 * scale, line = 15 * scale;
    var longest = labels.reduce(function (n, label) { return Math.max(n, label.text.length); }, 0);
    layout.margin.r = Math.round(Math.min(longest * 6.4 + 14, 210) * scale);
    var range = layout.yaxis.range, height = layout.height - layout.margin.t - 52 * scale;
    var placed = labels.map(function (label) {
      var at = (1 - (label.y - range[0]) / (range[1] - range[0])) * height;
      return { label: label, want: at, at: at };
    }).sort(function (a, b) { return a.want - b.want; });
    // Blocks of labels that would touch are merged and stand around their common middle.
    var blocks = [];
    placed.forEach(function (item) {
      blocks.push({ items: [item], middle: item.want });
      while (blocks.length > 1) {
        var last = blocks[blocks.length - 1], before = blocks[blocks.length - 2];
        if (last.middle - last.items.length * line / 2 >= before.middle + before.items.length * line / 2) break;
        var n = before.items.length + last.items.length;
        before.middle = (before.middle * before.items.length + last.middle * last.items.length) / n;
        before.items = before.items.concat(last.items);
        blocks.pop();
      }
      var block = blocks[blocks.length - 1], half = block.items.length * line / 2;
      block.middle = Math.min(Math.max(block.middle, half), Math.max(half, height - half));
    });
    blocks.forEach(function (block) {
      block.items.forEach(function (item, i) { item.at = block.middle + (i + 0.5 - block.items.length / 2) * line; });
    });
    return placed.map(function (item) {
      return {
        x: 1, xref: "paper", xanchor: "left", xshift: 6, y: item.label.y, yref: "y", yanchor: "middle",
        yshift: item.want - item.at, text: item.label.text, showarrow: false, align: "left",
        font: { color: item.label.colour, size: size }
      };
    });
  }

  // Figures are built for a root font of 16 px; sizes follow the reader's.
  function scaled(value, scale, inFont) {
    if (Array.isArray(value)) return value.map(function (item) { return scaled(item, scale, false); });
    if (!value || typeof value !== "object") return value;
    Object.keys(value).forEach(function (key) {
      if (inFont && key === "size") value.size *= scale;
      else value[key] = scaled(value[key], scale, key === "font");
    });
    return value;
  }

  function draw(plot) {
    var width = printing ? 660 : plot.canvas.clientWidth;
    if (!width) return;
    var figure = JSON.parse(JSON.stringify(plot.figure));
    var layout = figure.layout, meta = layout.meta || {};
    var scale = printing ? 0.82 : parseFloat(getComputedStyle(root).fontSize) / 16;
    scaled(layout, scale, false);
    layout.width = width;
    layout.height = Math.round(layout.height * scale);
    layout.margin.t *= scale;
    if (plot.element.dataset.kind === "points") {
      layout.width = Math.min(width, Math.round(520 * scale));
      layout.height = Math.max(250, Math.round(layout.width * 0.94));
    } else if (width < narrowAt && !meta.keep) {
      layout.height = Math.round(layout.height * 0.82);
    }
    if (meta.labels && width >= 700) {
      layout.annotations = (layout.annotations || []).concat(placeLabels(layout, meta.labels, scale));
    }
    if (meta.narrow && width < narrowAt) {
      if (meta.narrow.tickvals) {
        layout.xaxis.tickvals = meta.narrow.tickvals;
        layout.xaxis.ticktext = meta.narrow.ticktext;
      }
      if (meta.narrow.height) layout.height = Math.round(meta.narrow.height * scale);
      ["xaxis", "yaxis"].forEach(function (axis) { Object.assign(layout[axis], meta.narrow[axis] || {}); });
      layout.annotations = (layout.annotations || []).concat(meta.narrow.annotations || []);
    }
    figure.data.forEach(function (trace, i) { if (plot.hidden[i]) trace.visible = false; });
    plot.drawnAt = width;
    plot.canvas.style.setProperty("--height", layout.height + "px");
    return window.Plotly.react(plot.canvas, themed(figure.data), themed(layout), { displayModeBar: false, responsive: false });
  }

  function redraw() { plots.forEach(function (plot) { if (plot.drawnAt) draw(plot); }); }

  // First those in sight, then the others one at a time, so that the page answers meanwhile.
  var waiting = plots.slice();
  var idle = window.requestIdleCallback || function (call) { return setTimeout(call, 1); };
  function next() {
    var plot = waiting.shift();
    if (!plot) { root.dataset.figures = "drawn"; return; }
    if (!plot.drawnAt) draw(plot);
    idle(next);
  }

  var observer = new ResizeObserver(function (entries) {
    entries.forEach(function (entry) {
      var plot = plots.filter(function (p) { return p.canvas === entry.target; })[0];
      if (!printing && plot && plot.drawnAt && entry.target.clientWidth && entry.target.clientWidth !== plot.drawnAt) draw(plot);
    });
  });

  // Legends

  plots.forEach(function (plot) {
    all(".legend button", plot.element).forEach(function (button) {
      button.addEventListener("click", function () {
        var on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(on));
        button.dataset.traces.split(",").forEach(function (i) { plot.hidden[i] = !on; });
        draw(plot);
      });
    });
  });

  // Tabs of metrics

  all("[data-tabs]").forEach(function (group) {
    var buttons = all("button", group);
    function pick(key) {
      buttons.forEach(function (button) {
        var on = button.dataset.tab === key;
        button.setAttribute("aria-pressed", String(on));
        var figure = document.getElementById(button.dataset.tab);
        figure.hidden = !on;
        figure.classList.add("tabbed");
        if (on) plots.forEach(function (plot) { if (plot.element === figure && plot.canvas.clientWidth !== plot.drawnAt) draw(plot); });
      });
    }
    buttons.forEach(function (button) { button.addEventListener("click", function () { pick(button.dataset.tab); }); });
    group.hidden = false;
    pick(buttons[0].dataset.tab);
  });

  // Values of points: thousands of rows become a table only when it is opened.

  function pointRows(plot) {
    var trace = plot.figure.data[0];
    return [["row", "true", "predicted"]].concat(trace.x.map(function (x, i) { return [trace.customdata[i], x, trace.y[i]]; }));
  }
  plots.forEach(function (plot) {
    var details = plot.element.querySelector("details[data-build=points]");
    if (!details) return;
    details.addEventListener("toggle", function () {
      if (!details.open || details.querySelector("table")) return;
      var scroll = document.createElement("div"), table = document.createElement("table");
      scroll.className = "scroll tall";
      scroll.tabIndex = 0;
      scroll.setAttribute("role", "region");
      scroll.setAttribute("aria-label", "Values of the figure");
      pointRows(plot).forEach(function (row, i) {
        var line = table.insertRow();
        row.forEach(function (value, j) {
          var cell = document.createElement(i && j ? "td" : "th");
          cell.scope = i ? "row" : "col";
          if (j) cell.className = "num";
          cell.textContent = typeof value === "number" && j ? String(+value.toPrecision(5)) : String(value);
          line.appendChild(cell);
        });
      });
      scroll.appendChild(table);
      details.appendChild(scroll);
    });
  });

  // Saving

  function save(name, type, text) {
    var link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: type }));
    link.download = name;
    link.click();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
  }
  function csv(rows) {
    return rows.map(function (row) {
      return row.map(function (value) {
        var text = value === null ? "" : String(value);
        // A spreadsheet would run a cell that begins like a formula.
        if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
        return /[",\n\r]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
      }).join(",");
    }).join("\n") + "\n";
  }
  function tableRows(table) {
    return all("tr", table).map(function (row) {
      return all("th, td", row).reduce(function (cells, cell) {
        var data = cell.querySelector("data"), interval = cell.querySelector(".interval");
        cells.push(data ? Number(data.value) : cell.textContent.trim());
        if (interval) cells.push(interval.textContent.trim().replace("\u00a0", " "));
        else if (cell.closest("thead") && cell.cellIndex && table.querySelector("tbody tr td:nth-child(" + (cell.cellIndex + 1) + ") .interval")) cells.push("95% interval");
        return cells;
      }, []);
    });
  }
  plots.forEach(function (plot) {
    var tools = plot.element.querySelector(".tools");
    tools.hidden = false;
    all("button", tools).forEach(function (button) {
      button.addEventListener("click", function () {
        var name = plot.element.id;
        if (button.dataset.save === "svg") {
          window.Plotly.toImage(plot.canvas, { format: "svg", width: plot.canvas._fullLayout.width, height: plot.canvas._fullLayout.height })
            .then(function (url) { save(name + ".svg", "image/svg+xml", decodeURIComponent(url.slice(url.indexOf(",") + 1))); });
        } else {
          var table = plot.element.querySelector("details.values table");
          save(name + ".csv", "text/csv", csv(plot.element.dataset.kind === "points" ? pointRows(plot) : tableRows(table)));
        }
      });
    });
  });
  all("[data-copy]").forEach(function (button) {
    button.hidden = false;
    button.addEventListener("click", function () {
      var source = document.getElementById(button.dataset.copy);
      var done = function () { button.textContent = "Copied"; setTimeout(function () { button.textContent = "Copy"; }, 1500); };
      var select = function () { window.getSelection().selectAllChildren(source); button.textContent = "Selected"; };
      if (navigator.clipboard) navigator.clipboard.writeText(source.textContent).then(done, select);
      else select();
    });
  });

  // Sorting: by number where a cell has one, missing ones last, a third click gives the first order back.

  all("table.sortable").forEach(function (table) {
    var body = table.tBodies[0], first = all("tr", body);
    all("thead th", table).forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      button.addEventListener("click", function () {
        var was = head.getAttribute("aria-sort");
        var way = was === "descending" ? "ascending" : was === "ascending" ? null : "descending";
        all("thead th", table).forEach(function (other) { other.removeAttribute("aria-sort"); });
        if (way) head.setAttribute("aria-sort", way);
        var key = function (row) {
          var data = row.cells[column].querySelector("data");
          return data ? Number(data.value) : column ? null : row.cells[0].textContent;
        };
        var rows = first.slice();
        if (way && column) rows.sort(function (a, b) {
          var x = key(a), y = key(b);
          if (x === null || y === null) return (x === null) - (y === null);
          return way === "ascending" ? x - y : y - x;
        });
        else if (way === "ascending") rows.reverse();
        rows.forEach(function (row) { body.appendChild(row); });
      });
    });
  });

  // The section in sight is marked in the bar.

  var links = all(".bar nav a[href^='#']");
  var marks = links.map(function (link) { return document.getElementById(link.getAttribute("href").slice(1)); });
  var pending = false;
  function spy() {
    pending = false;
    var current = 0, edge = window.innerHeight * 0.35;
    marks.forEach(function (mark, i) { if (mark && mark.getBoundingClientRect().top < edge) current = i; });
    if (window.innerHeight + window.scrollY >= document.body.scrollHeight - 4) current = links.length - 1;
    links.forEach(function (link, i) {
      if (i === current && link.getAttribute("aria-current") !== "true") {
        link.setAttribute("aria-current", "true");
        var list = link.closest("ul");
        if (list.scrollWidth > list.clientWidth) list.scrollLeft = link.offsetLeft - list.clientWidth / 2 + link.offsetWidth / 2;
      } else if (i !== current) link.removeAttribute("aria-current");
    });
  }
  window.addEventListener("scroll", function () { if (!pending) { pending = true; requestAnimationFrame(spy); } }, { passive: true });
  spy();

  // Print: light, all figures, the width of the paper.

  var opened = [];
  window.addEventListener("beforeprint", function () {
    printing = true;
    opened = all(".rules:not([open]), .warnings details:not([open])");
    opened.forEach(function (details) { details.open = true; });
    plots.forEach(draw);
  });
  window.addEventListener("afterprint", function () {
    printing = false;
    opened.forEach(function (details) { details.open = false; });
    plots.forEach(draw);
  });

  plots.forEach(function (plot) { observer.observe(plot.canvas); });
  next();
})();
