/*
 * The running conversation: who said what, the newest in view.
 * Owns: the list's elements and how far it is scrolled. Knows nothing of states but whether an
 * answer is being waited for.
 */
(function (UserVLM) {
  "use strict";

  var NEAR_PX = 48;  /* to the end: still counts as reading the newest */

  function make(name, kind) {
    var made = document.createElement(name);
    made.className = kind;
    return made;
  }

  /* One turn's element; its parts are kept on it by name. */
  function line() {
    var item = make("li", "turn");
    var head = make("p", "who");
    var dots = make("span", "dots");
    item.label = document.createTextNode("");
    item.said = document.createTextNode("");
    item.body = make("p", "text");
    item.body.setAttribute("dir", "auto");
    dots.appendChild(make("i", "dot"));
    dots.appendChild(make("i", "dot second"));
    dots.appendChild(make("i", "dot third"));
    head.appendChild(item.label);
    head.appendChild(dots);
    item.body.appendChild(item.said);
    item.appendChild(head);
    item.appendChild(item.body);
    return item;
  }

  /* Change a text node only as far as it differs: growing text costs its new end alone. */
  function put(node, text) {
    var old = node.data;
    if (old === text) {
      return;
    }
    if (old && text.length > old.length && text.slice(0, old.length) === old) {
      node.appendData(text.slice(old.length));
    } else {
      node.data = text;
    }
  }

  /* A turn that has come without its words yet. */
  function waited() {
    return { id: "waited", who: "robot", text: "", done: false };
  }

  function turns(list, scroller, newest) {
    var items = {};    /* by the turn's id */
    var follows = true;  /* whether the newest is to be in view */

    function atEnd() {
      return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight <= NEAR_PX;
    }

    function mark() {
      if (newest.classList.contains("shown") === follows) {
        newest.classList.toggle("shown");
      }
    }

    function toEnd() {
      follows = true;
      scroller.scrollTop = scroller.scrollHeight;
      mark();
    }

    function settle() {
      if (follows) {
        toEnd();
      }
    }

    function fill(item, turn, said) {
      var mine = turn.who === "person";
      var kind = "turn " + (mine ? "person" : "robot") + (turn.done ? "" : " open");
      if (item.className !== kind) {
        item.className = kind;
      }
      put(item.label, mine ? said.person : said.robot);
      put(item.said, turn.text);
    }

    /* What a person who has scrolled up is reading: the first turn in view that stays. */
    function anchor(kept) {
      var top = scroller.getBoundingClientRect().top;
      var item = list.firstChild;
      while (item && (!kept[item.turn] || item.getBoundingClientRect().bottom <= top)) {
        item = item.nextSibling;
      }
      return item;
    }

    function update(given, said, waiting) {
      var all = given.slice();
      var last = all[all.length - 1];
      var kept = {};
      var i, id, item, read, before, next;
      if (waiting && (!last || last.who === "person" || last.done)) {
        all.push(waited());
      }
      for (i = 0; i < all.length; i += 1) {
        kept[String(all[i].id)] = true;
      }
      read = follows ? null : anchor(kept);
      before = read && read.getBoundingClientRect().top;
      for (id in items) {
        if (!kept[id]) {
          list.removeChild(items[id]);
          delete items[id];
        }
      }
      next = list.firstChild;
      for (i = 0; i < all.length; i += 1) {
        id = String(all[i].id);
        item = items[id] || line();
        items[id] = item;
        item.turn = id;
        fill(item, all[i], said);
        if (item === next) {
          next = item.nextSibling;
        } else {
          list.insertBefore(item, next);
        }
      }
      if (read) {
        scroller.scrollTop += read.getBoundingClientRect().top - before;
        follows = atEnd();
      }
      if (!all.length) {
        follows = true;
      }
      settle();
      mark();
    }

    scroller.addEventListener("scroll", function () {
      follows = atEnd();
      mark();
    });
    newest.addEventListener("click", toEnd);
    window.addEventListener("resize", settle);

    return { update: update, toEnd: toEnd, settle: settle };
  }

  UserVLM.make = make;
  UserVLM.turns = turns;
}(window.UserVLM = window.UserVLM || {}));
