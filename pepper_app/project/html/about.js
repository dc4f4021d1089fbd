/*
 * What the robot knows about whoever is in front of it, and the one button to change that.
 * Owns: how a record reads in plain words, and that forgetting takes two touches. Knows nothing of
 * the conversation.
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

    function label() {
      var armed = armedAt !== null;
      parts.button.classList.toggle("armed", armed);
      parts.button.classList.toggle("gone", !user);
      parts.word.textContent = !user ? ""
        : armed ? said.sure : user.kept ? said.forget : said.remember;
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

    /* Someone as page.js read them, or null. */
    function update(someone, words) {
      var told = JSON.stringify([someone, words.code]);
      var i, lines;
      if (told === shown) {
        return;  /* an answer that streams in must not undo the first touch */
      }
      shown = told;
      user = someone;
      said = words.about;
      changedAt = UserVLM.now();
      parts.title.textContent = said.title;
      parts.text.textContent = "";
      parts.text.scrollTop = 0;
      if (user && user.kept) {
        record(words);
      } else {
        lines = user ? said.notKept : said.nobody;
        for (i = 0; i < lines.length; i += 1) {
          paragraph(lines[i], i ? "more" : "plain");
        }
      }
      disarm();
    }

    parts.button.addEventListener("click", function () {
      if (!user || UserVLM.now() - changedAt < CALM_MS) {
        return;
      }
      if (!user.kept) {
        say("remember");
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
