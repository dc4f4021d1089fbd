/*
 * The way to the robot: what a person did on the page, as one line of JSON.
 * Owns: the form of the messages, and that a touch counts once however nervous the finger. Knows
 * nothing of what was touched.
 */
(function (UserVLM) {
  "use strict";

  var LONGEST = 500;
  var AGAIN_MS = 800;  /* sooner than this nothing follows: a double tap is one tap */

  /* Time that no clock set by the network can turn back. */
  function now() {
    return window.performance.now();
  }

  /* Without surrounding space, and no longer than the robot takes; never half of a character. */
  function trimmed(text) {
    var short = text.trim().slice(0, LONGEST);
    return short.replace(/[\uD800-\uDBFF]$/, "").trim();
  }

  /* Whether this page is on a robot at all. */
  function there() {
    return Boolean(window.ALTabletBinding && window.ALTabletBinding.raiseEvent);
  }

  /* Hand it over; false when there is nobody to take it, or they would not. */
  function raise(message) {
    if (!there()) {
      return false;
    }
    try {
      window.ALTabletBinding.raiseEvent(JSON.stringify(message));
    } catch (refused) {
      return false;  /* whatever the tablet's own code throws, the page stays */
    }
    return true;
  }

  /*
   * A door to the robot. say(what, text) is true when it went through; `lost` is called when it
   * should have gone and could not.
   */
  function door(lost) {
    var last = "";
    var lastAt = -AGAIN_MS;

    function say(what, text) {
      var message = { "do": what };
      var hurried = now() - lastAt < AGAIN_MS;
      if (what === "ask") {
        message.text = trimmed(text);
        if (!message.text) {
          return false;
        }
      }
      /* Stop is the exception: it must work right after a question, only not twice. */
      if (hurried && !(what === "stop" && last !== "stop")) {
        return false;
      }
      if (!raise(message)) {
        lost();
        return false;
      }
      last = what;
      lastAt = now();
      return true;
    }

    return {
      say: say,
      hello: function () { return raise({ "do": "hello" }); }
    };
  }

  UserVLM.now = now;
  UserVLM.robotIsThere = there;
  UserVLM.door = door;
}(window.UserVLM = window.UserVLM || {}));
