/*
 * What the page says in each language, and how a day is written in it.
 * Owns: every sentence of the page's own. Knows nothing of where it stands.
 * ES5 alone, like all scripts here: the tablet's browser is Chrome 44. Days are written by hand:
 * what that browser's Intl knows depends on how it was built.
 */
(function (UserVLM) {
  "use strict";

  var WORDS = {
    en: {
      code: "en",
      status: {
        elsewhere: "No robot here",
        waking: "I am waking up",
        alone: "I am here",
        looking: "I am looking at you",
        ready: "Ask me something",
        thinking: "I am thinking",
        speaking: "I am speaking",
        asking: "I am asking you",
        away: "I cannot think now"
      },
      person: "You",
      robot: "Pepper",
      field: "Write to me here",
      send: "Send",
      stop: "Stop",
      yes: "Yes",
      no: "No",
      newest: "To the newest",
      question: "Yes or no?",
      lost: "That did not reach me. Please try again.",
      hints: {
        waking: "One moment, please.",
        looking: "Hello! One moment, I am looking at you.",
        ready: "Hello! What would you like to know?",
        away: "I am sorry. I keep trying to get back to you."
      },
      welcome: {
        waking: ["Hello", "I am just waking up. One moment, please."],
        alone: ["Come closer and talk to me", "Say hello, or ask me a question."],
        elsewhere: [
          "This page lives on Pepper",
          "It is made for the tablet of a Pepper robot. There is no robot here to answer you."
        ]
      },
      about: {
        title: "What I know about you",
        nobody: ["I do not know who is in front of me."],
        notKept: [
          "I do not keep anything about you after you leave.",
          "Shall I know you next time? Touch the button: I ask before I keep anything."
        ],
        unasked: "Have we met? I compare your face with others only if you ask.",
        never: ["I recognise nobody here, and I keep nothing about you when you leave."],
        kept: "I remember you.",
        know: "Do you know me?",
        remember: "Remember me",
        forget: "Forget me",
        sure: "Touch again to forget",
        since: "Since",
        until: "Until",
        forever: "you ask me to forget you",
        what: "What I keep",
        how: "How you agreed",
        keeps: {
          profile: "That we have met, and what you agreed to. No picture.",
          embedding: "What you agreed to, and numbers from your picture, to know you again. " +
            "Not the picture.",
          state: "What you agreed to, and numbers from your picture, to know you again and to " +
            "answer faster. Not the picture."
        },
        agreed: {
          "said yes to the robot": "You said yes to me.",
          "said yes to the robot, which had asked": "I asked, and you said yes.",
          "pressed yes on the robot's tablet, which had asked": "I asked, and you touched Yes here."
        }
      },
      months: [
        "January", "February", "March", "April", "May", "June",
        "July", "August", "September", "October", "November", "December"
      ],
      first: "1"
    },
    fr: {
      code: "fr",
      status: {
        elsewhere: "Aucun robot ici",
        waking: "Je me réveille",
        alone: "Je suis là",
        looking: "Je vous regarde",
        ready: "Posez-moi une question",
        thinking: "Je réfléchis",
        speaking: "Je parle",
        asking: "Une question pour vous",
        away: "Je ne peux pas réfléchir"
      },
      person: "Vous",
      robot: "Pepper",
      field: "Écrivez-moi ici",
      send: "Envoyer",
      stop: "Stop",
      yes: "Oui",
      no: "Non",
      newest: "Aller à la fin",
      question: "Oui ou non ?",
      lost: "Cela ne m'est pas parvenu. Essayez encore, s'il vous plaît.",
      hints: {
        waking: "Un instant, s'il vous plaît.",
        looking: "Bonjour ! Un instant, je vous regarde.",
        ready: "Bonjour ! Que voulez-vous savoir ?",
        away: "Désolé. J'essaie de revenir vers vous."
      },
      welcome: {
        waking: ["Bonjour", "Je me réveille. Un instant, s'il vous plaît."],
        alone: ["Approchez et parlez-moi", "Dites bonjour, ou posez-moi une question."],
        elsewhere: [
          "Cette page vit sur Pepper",
          "Elle est faite pour la tablette d'un robot Pepper. Ici, aucun robot ne peut répondre."
        ]
      },
      about: {
        title: "Ce que je sais de vous",
        nobody: ["Je ne sais pas qui est devant moi."],
        notKept: [
          "Je ne garde rien de vous après votre départ.",
          "Dois-je vous reconnaître la prochaine fois ? Touchez le bouton : je demande avant de " +
            "garder quoi que ce soit."
        ],
        unasked: "Déjà rencontrés ? Je ne compare votre visage à d'autres que si vous le demandez.",
        never: ["Ici, je ne reconnais personne, et je ne garde rien de vous quand vous partez."],
        kept: "Je me souviens de vous.",
        know: "Est-ce que tu me connais ?",
        remember: "Souviens-toi de moi",
        forget: "Oublie-moi",
        sure: "Touchez encore pour effacer",
        since: "Depuis",
        until: "Jusqu'au",
        forever: "jour où vous me le demandez",
        what: "Ce que je garde",
        how: "Votre accord",
        keeps: {
          profile: "Notre rencontre et votre accord. Aucune image.",
          embedding: "Votre accord, et des nombres tirés de votre image, pour vous " +
            "reconnaître. Pas l'image.",
          state: "Votre accord, et des nombres tirés de votre image, pour vous reconnaître et " +
            "vous répondre plus vite. Pas l'image."
        },
        agreed: {
          "said yes to the robot": "Vous m'avez dit oui.",
          "said yes to the robot, which had asked": "J'ai demandé, et vous avez dit oui.",
          "pressed yes on the robot's tablet, which had asked":
            "J'ai demandé, et vous avez touché Oui ici."
        }
      },
      months: [
        "janvier", "février", "mars", "avril", "mai", "juin",
        "juillet", "août", "septembre", "octobre", "novembre", "décembre"
      ],
      first: "1er"
    }
  };

  /* English where the language is not one of ours. */
  function words(language) {
    return Object.prototype.hasOwnProperty.call(WORDS, language) ? WORDS[language] : WORDS.en;
  }

  /* "2026-11-27" in words; whatever else it is, as it came. */
  function day(text, said) {
    var parts = /^(\d{4})-(\d{2})-(\d{2})/.exec(text);
    var month = parts && said.months[Number(parts[2]) - 1];
    if (!month) {
      return text;
    }
    return (parts[3] === "01" ? said.first : String(Number(parts[3]))) + " " + month + " " + parts[1];
  }

  UserVLM.words = words;
  UserVLM.day = day;
}(window.UserVLM = window.UserVLM || {}));
