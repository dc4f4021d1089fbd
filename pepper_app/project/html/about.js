/*
 * What the robot knows about whoever is in front of it, and the buttons to change that.
 * Owns: how a record reads in plain words, and that forgetting takes two touches. Knows nothing of
 * the conversation, nor of what may be offered when.
 */
(function (UserVLM) {
  "use strict";

  var ARMED_MS = 8000;  /* how long the second touch is waited for */
  var CALM_MS = 600;    /* a second touch sooner than this is the first one's echo */

  function has(object, key) {
    return Object.prototype.hasOwnProperty.call(object, key);
  }

  function about(parts, say) {
    var shown = null;   /* what is on the screen, as text */
    var user = null;
    var offers = [];    /* of know, remember and forget */
    var said = null;
    var changedAt = 0;
    var armedAt = null;
    var timer = null;

    function paragraph(text, kind) {
      var made = UserVLM.make("p", kind);
      made.setAttribute("dir", "auto");
      made.textContent = text;
      parts.text.appendChild(made);
    }

    function fact(name, text, kind) {
      paragraph(name, "fact-name " + kind);
      paragraph(text, "fact " + kind);
    }

    function offered(what) {
      return user !== null && offers.indexOf(what) >= 0;
    }

    function label() {
      var armed = armedAt !== null;
      var main = offered("forget") ? said.forget : offered("remember") ? said.remember : "";
      parts.button.classList.toggle("armed", armed);
      parts.button.classList.toggle("gone", !main);
      parts.word.textContent = armed ? said.sure : main;
      parts.know.classList.toggle("offered", offered("know"));
      parts.know.textContent = offered("know") ? said.know : "";
    }

    function disarm() {
      window.clearTimeout(timer);
      armedAt = null;
      label();
    }

    function arm() {
      armedAt = UserVLM.now();
      timer = window.setTimeout(disarm, ARMED_MS);
      label();
    }

    function record(words) {
      var how;
      paragraph(said.kept, "plain");
      fact(said.since, UserVLM.day(user.since, words), "short");
      fact(said.until, user.until ? UserVLM.day(user.until, words) : said.forever, "short");
      if (has(said.keeps, user.keeps)) {
        fact(said.what, said.keeps[user.keeps], "long");
      }
      if (user.how) {
        how = has(said.agreed, user.how) ? said.agreed[user.how] : "“" + user.how + "”";
        fact(said.how, how, "long");
      }
    }

    function stranger() {
      var lines = !user ? said.nobody : offered("remember") ? said.notKept : said.never;
      var i;
      for (i = 0; i < lines.length; i += 1) {
        paragraph(lines[i], i ? "more" : "plain");
      }
      if (offered("know")) {
        paragraph(said.unasked, "more");
      }
    }

    /* Someone as page.js read them, or null, and what they may ask for. */
    function update(someone, may, words) {
      var told = JSON.stringify([someone, may, words.code]);
      if (told === shown) {
        return;  /* an answer that streams in must not undo the first touch */
      }
      shown = told;
      user = someone;
      offers = may;
      said = words.about;
      changedAt = UserVLM.now();
      parts.title.textContent = said.title;
      parts.text.textContent = "";
      parts.text.scrollTop = 0;
      if (user && user.kept) {
        record(words);
      } else {
        stranger();
      }
      disarm();
    }

    function calm() {
      return UserVLM.now() - changedAt >= CALM_MS;
    }

    parts.know.addEventListener("click", function () {
      if (offered("know") && calm()) {
        say("know");
      }
    });
    parts.button.addEventListener("click", function () {
      if (!calm()) {
        return;
      }
      if (offered("remember")) {
        say("remember");
      } else if (!offered("forget")) {
        return;
      } else if (armedAt === null) {
        arm();
      } else if (UserVLM.now() - armedAt >= CALM_MS) {
        disarm();
        say("forget");
      }
    });

    return { update: update };
  }

  UserVLM.about = about;
}(window.UserVLM = window.UserVLM || {}));
