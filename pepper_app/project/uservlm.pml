<?xml version="1.0" encoding="UTF-8" ?>
<!-- Opened by Choregraphe; its list is what pepper_app/package.py and qipkg put into the package. -->
<Package name="uservlm" format_version="4">
    <Manifest src="manifest.xml" />
    <BehaviorDescriptions>
        <BehaviorDescription name="behavior" src="behavior_1" xar="behavior.xar" />
    </BehaviorDescriptions>
    <Dialogs>
        <Dialog name="uservlm" src="dialog/uservlm.dlg" />
    </Dialogs>
    <Resources>
        <File name="icon" src="icon.png" />
        <File name="about" src="html/about.js" />
        <File name="index" src="html/index.html" />
        <File name="page" src="html/page.js" />
        <File name="robot" src="html/robot.js" />
        <File name="style" src="html/style.css" />
        <File name="turns" src="html/turns.js" />
        <File name="words" src="html/words.js" />
        <File name="__init__" src="onboard/__init__.py" />
        <File name="__main__" src="onboard/__main__.py" />
        <File name="answering" src="onboard/answering.py" />
        <File name="brain" src="onboard/brain.py" />
        <File name="brain_http" src="onboard/brain_http.py" />
        <File name="brain_qi" src="onboard/brain_qi.py" />
        <File name="camera" src="onboard/camera.py" />
        <File name="clean" src="onboard/clean.py" />
        <File name="consent" src="onboard/consent.py" />
        <File name="conversation" src="onboard/conversation.py" />
        <File name="crossing" src="onboard/crossing.py" />
        <File name="debts" src="onboard/debts.py" />
        <File name="ears" src="onboard/ears.py" />
        <File name="events" src="onboard/events.py" />
        <File name="faces" src="onboard/faces.py" />
        <File name="hearing" src="onboard/hearing.py" />
        <File name="hearsay" src="onboard/hearsay.py" />
        <File name="life" src="onboard/life.py" />
        <File name="lights" src="onboard/lights.py" />
        <File name="looking" src="onboard/looking.py" />
        <File name="loop" src="onboard/loop.py" />
        <File name="naoqi" src="onboard/naoqi.py" />
        <File name="people" src="onboard/people.py" />
        <File name="png" src="onboard/png.py" />
        <File name="presence" src="onboard/presence.py" />
        <File name="problem" src="onboard/problem.py" />
        <File name="recognition" src="onboard/recognition.py" />
        <File name="settings" src="onboard/settings.py" />
        <File name="speaker" src="onboard/speaker.py" />
        <File name="tablet" src="onboard/tablet.py" />
        <File name="terms" src="onboard/terms.py" />
        <File name="touch" src="onboard/touch.py" />
        <File name="view" src="onboard/view.py" />
        <File name="visit" src="onboard/visit.py" />
        <File name="way" src="onboard/way.py" />
        <File name="words" src="onboard/words.py" />
    </Resources>
    <Topics>
        <Topic name="uservlm_enu" src="dialog/uservlm_enu.top" topicName="uservlm" language="en_US" />
        <Topic name="uservlm_frf" src="dialog/uservlm_frf.top" topicName="uservlm" language="fr_FR" />
    </Topics>
    <IgnoredPaths>
        <Path src=".metadata" />
        <Path src="onboard/__pycache__" />
        <Path src="onboard/py.typed" />
    </IgnoredPaths>
    <Translations auto-fill="en_US">
        <Translation name="translation_en_US" src="translations/translation_en_US.ts" language="en_US" />
        <Translation name="translation_fr_FR" src="translations/translation_fr_FR.ts" language="fr_FR" />
    </Translations>
</Package>
