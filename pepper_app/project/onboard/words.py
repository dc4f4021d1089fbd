# -*- coding: utf-8 -*-
"""What the robot says of its own accord, and what it understands, in the languages it speaks.

Owns: every sentence that is not the model's. Knows nothing of when one is said. Every key has one
text or several, of which one is taken; a test holds the languages against each other. `terms.py`
puts the parts of the question for consent together.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Text, Tuple

    Sentences = Dict[Text, Tuple[Text, ...]]

ROBOT_LANGUAGES = {"en": "English", "fr": "French"}
"""NAOqi's names."""
TOPICS = {"en": "enu", "fr": "frf"}
"""The ends of the names of the topics' files."""

SAYS = {
    "en": {
        "hello": ("Hello!", "Hi there!", "Hello, nice to see you!"),
        "again": ("We have met before. I am happy to see you again!",),
        "filler": ("Let me think.", "One moment.", "Good question."),
        "filler_long": ("I am still thinking.", "This takes me a little longer."),
        "unseen": ("I cannot see you well. Could you come in front of me, and ask again?",),
        "away": ("I am sorry, I cannot think right now. I am trying to get that back.",),
        "away_still": ("I still cannot think. Please ask me again in a while.",),
        "back": ("I can think again!",),
        "busy": ("Somebody else is asking me something. One moment, please.",),
        "too_long": ("I am sorry, that takes me too long. Could you ask in another way?",),
        "broken": ("I am sorry, I lost my thread. Please ask me again.",),
        "nothing": ("I am sorry, I have no answer to that.",),
        "kept": ("Thank you. I will know you next time. Say forget me whenever you like.",),
        "kept_when_asked": (
            "Thank you. When you come back, ask me: do you know me? Say forget me whenever you "
            "like.",
        ),
        "not_known": (
            "I do not recognise you. Say remember me, if you want me to know you next time.",
        ),
        "nobody_known": ("I recognise nobody here, and I keep nothing about you when you leave.",),
        "not_kept": ("All right. I will forget you when you leave.",),
        "kept_already": ("I remember you already. Say forget me if you do not want that.",),
        "keep_failed": ("I am sorry, I could not write that down. I will not remember you.",),
        "forgotten": ("I have forgotten you.",),
        "nothing_kept": ("I keep nothing about you when you leave.",),
        "forget_later": (
            "I cannot reach my memory right now. I will forget you as soon as I can.",
        ),
        "alone_first": (
            "For that you have to be alone in front of me. Please come on your own, and say it "
            "again.",
        ),
        "notice_away": ("I cannot think right now. I keep trying.",),
    },
    "fr": {
        "hello": ("Bonjour !", "Bonjour, ravi de vous voir !"),
        "again": ("Nous nous connaissons déjà. Content de vous revoir !",),
        "filler": ("Laissez-moi réfléchir.", "Un instant.", "Bonne question."),
        "filler_long": ("Je réfléchis encore.", "Cela me prend un peu plus de temps."),
        "unseen": ("Je ne vous vois pas bien. Pouvez-vous vous mettre devant moi et redemander ?",),
        "away": ("Désolé, je n'arrive pas à réfléchir pour le moment. J'essaie d'y remédier.",),
        "away_still": (
            "Je n'arrive toujours pas à réfléchir. Redemandez-moi dans un moment, s'il vous plaît.",
        ),
        "back": ("Je peux de nouveau réfléchir !",),
        "busy": ("Quelqu'un d'autre me pose une question. Un instant, s'il vous plaît.",),
        "too_long": ("Désolé, cela me prend trop de temps. Pouvez-vous demander autrement ?",),
        "broken": ("Désolé, j'ai perdu le fil. Redemandez-moi, s'il vous plaît.",),
        "nothing": ("Désolé, je n'ai pas de réponse à cela.",),
        "kept": (
            "Merci. Je vous reconnaîtrai la prochaine fois. Dites oublie-moi quand vous voulez.",
        ),
        "kept_when_asked": (
            "Merci. Quand vous reviendrez, demandez-moi : est-ce que tu me connais ? Dites "
            "oublie-moi quand vous voulez.",
        ),
        "not_known": (
            "Je ne vous reconnais pas. Dites souviens-toi de moi, si vous voulez que je vous "
            "reconnaisse la prochaine fois.",
        ),
        "nobody_known": (
            "Ici, je ne reconnais personne, et je ne garde rien de vous quand vous partez.",
        ),
        "not_kept": ("D'accord. Je vous oublierai quand vous partirez.",),
        "kept_already": ("Je me souviens déjà de vous. Dites oublie-moi si vous ne voulez pas.",),
        "keep_failed": ("Désolé, je n'ai pas pu le noter. Je ne me souviendrai pas de vous.",),
        "forgotten": ("Je vous ai oublié.",),
        "nothing_kept": ("Je ne garde rien de vous quand vous partez.",),
        "forget_later": ("Je n'ai pas accès à ma mémoire. Je vous oublierai dès que possible.",),
        "alone_first": (
            "Pour cela, il faut être seul devant moi. Revenez seul, s'il vous plaît, et "
            "redites-le.",
        ),
        "notice_away": ("Je n'arrive pas à réfléchir pour le moment. Je continue d'essayer.",),
    },
}  # type: Dict[Text, Sentences]

TERMS = {
    "en": {
        "aim": "To know you next time, ",
        "ask": "I would keep %s, for %s or until you say forget me. Shall I remember you, yes or "
        "no?",
        "numbers": "numbers from your picture on my computer",
        "face": "your face in my memory",
        "and": ", and ",
        "nothing": "that we have met",
        "written_aim": "What for: to know you next time.",
        "written_profile": "What I keep: that we have met, and what you agreed to. No picture.",
        "written_embedding": "What I keep: numbers computed from your picture, encrypted, on the "
        "computer that thinks for me. Not the picture.",
        "written_state": "What I keep: numbers computed from your picture, to answer faster too, "
        "encrypted, on the computer that thinks for me. Not the picture.",
        "written_face": "And what the robot's own memory makes of your face, not encrypted.",
        "written_days": "How long: %s from today, or until you want me to forget you.",
        "written_free": "To be forgotten: say forget me, touch Forget me here twice, or leave a "
        "hand on the back of my head for 3 seconds. If you say no, I answer you all the same.",
    },
    "fr": {
        "aim": "Pour vous reconnaître la prochaine fois, ",
        "ask": "je garderais %s, pendant %s ou jusqu'à ce que vous disiez oublie-moi. Voulez-vous "
        "que je me souvienne de vous, oui ou non ?",
        "numbers": "des nombres tirés de votre image sur mon ordinateur",
        "face": "votre visage dans ma mémoire",
        "and": ", et ",
        "nothing": "le fait que nous nous sommes rencontrés",
        "written_aim": "Dans quel but : vous reconnaître la prochaine fois.",
        "written_profile": "Ce que je garde : notre rencontre et votre accord. Aucune image.",
        "written_embedding": "Ce que je garde : des nombres tirés de votre image, chiffrés, sur "
        "l'ordinateur qui réfléchit pour moi. Pas l'image.",
        "written_state": "Ce que je garde : des nombres tirés de votre image, aussi pour répondre "
        "plus vite, chiffrés, sur l'ordinateur qui réfléchit pour moi. Pas l'image.",
        "written_face": "Et ce que la mémoire du robot retient de votre visage, non chiffré.",
        "written_days": "Combien de temps : %s à partir d'aujourd'hui, ou jusqu'à ce que vous "
        "vouliez être oublié.",
        "written_free": "Pour être oublié : dites oublie-moi, touchez ici deux fois Oublie-moi, ou "
        "laissez une main à l'arrière de ma tête 3 secondes. Si vous dites non, je vous réponds "
        "de même.",
    },
}  # type: Dict[Text, Dict[Text, Text]]
"""What is asked for consent, in parts; `ask` takes what and how long."""

SPANS = {
    "en": ("one day", "%d days", "one year", "%d years"),
    "fr": ("un jour", "%d jours", "un an", "%d ans"),
}  # type: Dict[Text, Tuple[Text, Text, Text, Text]]

COMMANDS = {
    "en": {
        "stop": ("stop", "be quiet", "enough"),
        "forget": ("forget me",),
        "remember": ("remember me",),
        "know": ("do you know me", "do you remember me", "it's me"),
        "yes": ("yes", "yes please"),
        "no": ("no", "no thank you"),
    },
    "fr": {
        "stop": ("stop", "arrête", "tais-toi", "ça suffit"),
        "forget": ("oublie-moi", "oubliez-moi"),
        "remember": ("souviens-toi de moi",),
        "know": (
            "est-ce que tu me connais",
            "tu me reconnais",
            "vous me reconnaissez",
            "c'est moi",
        ),
        "yes": ("oui", "oui merci"),
        "no": ("non", "non merci"),
    },
}  # type: Dict[Text, Sentences]
"""What is listened for besides questions, when no dialog topic does it."""

SUGGESTIONS = {
    "en": (
        "How do I make a video call?",
        "How do I feel?",
        "Which top am I wearing?",
        "Am I alone?",
    ),
    "fr": (
        "Comment faire un appel vidéo ?",
        "Comment est-ce que je me sens ?",
        "Qu'est-ce que je porte ?",
        "Suis-je seul ?",
    ),
}  # type: Dict[Text, Tuple[Text, ...]]
"""Questions to begin with, unless the deployer gives others."""

HOW = {
    "voice": "said yes to the robot, which had asked",
    "tablet": "pressed yes on the robot's tablet, which had asked",
}  # type: Dict[Text, Text]
"""How somebody agreed, for the record of their consent."""
