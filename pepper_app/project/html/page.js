/*
 * The page as a whole: one state in, the screen out; touches in, messages to the robot out.
 * Owns: what is shown in which state, and that nothing of a person stays when they have left.
 * Knows nothing of why a state follows another: the robot's app decides that (onboard/tablet.py).
 *
 * The app calls UserVLM.show(state) with the complete state, again and again. What comes from
 * outside becomes text nodes and nothing else.
 */
(function (UserVLM) {
  "use strict";

  var HELLO_MS = 3000;
  var CALM_MS = 500;  /* what has just appeared under a finger was not meant */
  var LONG_CHIP = 36;  /* characters; more is set smaller */
  var STATES = ["alone", "looking", "ready", "thinking", "speaking", "asking", "away"];
  var MOST = { turns: 20, suggestions: 8, terms: 8 };
  var OFFERS = ["know", "remember", "forget"];

  var talk, about, door, timer;
  var state = null;        /* the latest, as read */
  var acting = "";         /* which controls are at hand: chips, stop or sheet */
  var actingSince = 0;
  var lost = false;        /* whether the last message did not reach the robot */

  function get(id) {
    return document.getElementById(id);
  }

  function put(id, wanted) {
    var node = get(id);
    if (node.textContent !== wanted) {
      node.textContent = wanted;
    }
  }

  /* Setting what is set already would make a slow browser look at it again. */
  function mark(node, name, wanted) {
    if (node.getAttribute(name) !== wanted) {
      node.setAttribute(name, wanted);
    }
  }

  function toggle(node, kind, wanted) {
    if (node.classList.contains(kind) !== wanted) {
      node.classList.toggle(kind);
    }
  }

  function text(value) {
    return typeof value === "string" ? value : "";
  }

  function list(value, most) {
    return Array.isArray(value) ? value.slice(-most) : [];
  }

  function object(value) {
    return value !== null && typeof value === "object" ? value : {};
  }

  /* Reading: whatever comes, the page goes on. */

  function readTurn(value) {
    var given = object(value);
    return {
      id: given.id,
      who: given.who === "person" ? "person" : "robot",
      text: text(given.text),
      done: given.done !== false
    };
  }

  function readUser(value) {
    var given = object(value);
    if (given !== value) {
      return null;
    }
    if (given.kept !== true) {
      return { kept: false };
    }
    return {
      kept: true,
      since: text(given.since),
      until: text(given.until),
      how: text(given.how),
      keeps: text(given.keeps)
    };
  }

  /* What there are buttons for; an app that does not say offers what fits. */
  function readOffers(value, user) {
    if (!Array.isArray(value)) {
      return user && user.kept ? ["forget"] : ["remember"];
    }
    return OFFERS.filter(function (one) { return value.indexOf(one) >= 0; });
  }

  function read(value) {
    var given = object(value);
    var user = readUser(given.user);
    var known = STATES.indexOf(given.state) >= 0;
    return {
      state: known ? given.state : "away",
      language: given.language,
      turns: list(given.turns, MOST.turns).map(readTurn),
      suggestions: list(given.suggestions, MOST.suggestions).map(text).filter(Boolean),
      user: user,
      offers: readOffers(given.offers, user),
      question: text(given.question),
      terms: list(given.terms, MOST.terms).map(text).filter(Boolean),
      notice: text(given.notice)
    };
  }

  /* Drawing. */

  function words() {
    return UserVLM.words(state.language);
  }

  /* A field that has never been typed in: emptying one leaves what undo brings back. */
  function renewField() {
    var old = get("field");
    var fresh = old.cloneNode(false);
    fresh.value = "";
    old.parentNode.replaceChild(fresh, old);
  }

  /* Nobody is here, and there is nothing to read. */
  function welcoming() {
    var idle = state.state === "alone" || state.state === "waking";
    return idle && !state.turns.length;
  }

  /* On somebody's desk, with no robot around it and none that has spoken. */
  function elsewhere() {
    return state.state === "waking" && !UserVLM.robotIsThere();
  }

  function drawLabels(said) {
    mark(document.documentElement, "lang", said.code);
    put("status", said.status[elsewhere() ? "elsewhere" : state.state]);
    put("send", said.send);
    put("stop-word", said.stop);
    put("yes", said.yes);
    put("no", said.no);
    put("newest", said.newest);
    mark(get("field"), "placeholder", said.field);
    mark(get("field"), "aria-label", said.field);
  }

  function drawWelcome(said) {
    var lines = said.welcome[elsewhere() ? "elsewhere" : state.state];
    put("welcome-title", welcoming() ? lines[0] : "");
    put("welcome-text", welcoming() ? lines[1] : "");
  }

  function drawChips() {
    var chips = get("chips");
    var many = state.suggestions;
    var told = JSON.stringify(many);
    var i, chip;
    if (chips.told === told) {
      return;
    }
    chips.told = told;
    chips.textContent = "";
    for (i = 0; i < many.length; i += 1) {
      chip = UserVLM.make("button", "button chip" + (many[i].length > LONG_CHIP ? " long" : ""));
      chip.type = "button";
      chip.setAttribute("dir", "auto");
      chip.asks = many[i];
      chip.appendChild(UserVLM.make("span", "chip-text"));
      chip.firstChild.textContent = many[i];
      chips.appendChild(chip);
    }
    chips.className = "chips many-" + many.length;
    get("strip").className = "strip many-" + many.length;
    actingSince = UserVLM.now();
  }

  /* What a yes would be a yes to. */
  function drawTerms(many) {
    var terms = get("terms");
    var told = JSON.stringify(many);
    var i, line;
    if (terms.told === told) {
      return;
    }
    terms.told = told;
    terms.textContent = "";
    for (i = 0; i < many.length; i += 1) {
      line = UserVLM.make("p", "term");
      line.setAttribute("dir", "auto");
      line.textContent = many[i];
      terms.appendChild(line);
    }
    terms.parentNode.scrollTop = 0;
  }

  function actions() {
    if (state.state === "asking") {
      return "sheet";
    }
    return state.state === "thinking" || state.state === "speaking" ? "stop" : "chips";
  }

  function drawActions() {
    var wanted = actions();
    if (wanted !== acting) {
      acting = wanted;
      actingSince = UserVLM.now();
    }
    mark(document.body, "data-acting", acting);
  }

  function draw() {
    var said = words();
    var notice = lost ? said.lost : state.notice;
    var gone = state.state === "alone";
    mark(document.body, "data-state", state.state);
    toggle(document.body, "welcoming", welcoming());
    drawLabels(said);
    drawWelcome(said);
    put("notice", notice);
    toggle(get("notice"), "shown", Boolean(notice));
    put("hint", state.turns.length ? "" : said.hints[state.state] || "");
    put("question", state.state === "asking" ? state.question || said.question : "");
    drawTerms(state.state === "asking" ? state.terms : []);
    drawChips();
    drawActions();
    talk.update(state.turns, said, state.state === "thinking");
    about.update(gone ? null : state.user, state.offers, said);
  }

  function show(value) {
    var before = state.turns.length;
    window.clearInterval(timer);
    lost = false;
    state = read(value);
    /* Another visit has begun, or none: the half-written question was somebody else's. */
    if (!state.turns.length && (before || state.state === "alone")) {
      renewField();
    }
    draw();
  }

  /* Touching. */

  function calm() {
    return UserVLM.now() - actingSince >= CALM_MS;
  }

  function say(what, said) {
    var went = door.say(what, said);
    if (went && lost) {
      lost = false;
      draw();
    }
    return went;
  }

  function failed() {
    lost = true;
    draw();
  }

  function button(id, what) {
    get(id).addEventListener("click", function () {
      if (calm()) {
        say(what);
      }
    });
  }

  function listen() {
    get("form").addEventListener("submit", function (event) {
      event.preventDefault();
      if (say("ask", get("field").value)) {
        get("field").value = "";
        get("field").blur();  /* the keyboard goes, and the answer has the screen */
        talk.toEnd();
      }
    });
    get("chips").addEventListener("click", function (event) {
      var chip = event.target;
      while (chip !== this && chip.asks === undefined) {
        chip = chip.parentNode;
      }
      if (chip !== this && calm() && say("ask", chip.asks)) {
        talk.toEnd();
      }
    });
    button("stop", "stop");
    button("yes", "yes");
    button("no", "no");
  }

  /* A script the robot sends before this page listens is lost, so the page asks for it. */
  function hello() {
    door.hello();
    draw();
  }

  function begin() {
    door = UserVLM.door(failed);
    talk = UserVLM.turns(get("turns"), get("scroller"), get("newest"));
    about = UserVLM.about({
      title: get("about-title"),
      text: get("about-text"),
      button: get("about-button"),
      word: get("about-word"),
      know: get("know")
    }, say);
    state = read({ state: "alone", language: (navigator.language || "").slice(0, 2) });
    state.state = "waking";
    listen();
    UserVLM.show = show;
    timer = window.setInterval(hello, HELLO_MS);
    hello();
  }

  begin();
}(window.UserVLM = window.UserVLM || {}));
