"""English sentences about twelve topics, put together from word lists: text to embed, to render, to put into files.

the old gardener | waters | the tomato plants | before sunset        topic 0
"""

from __future__ import annotations

import numpy as np

TOPICS = (  # who, does, what, when or where; each list has its words between bars
    "the old gardener|my neighbour|a patient farmer|the botanist & waters|prunes|plants|sells & the tomato plants|"
    "three apple trees|wild roses|young cabbages & before sunset|behind the greenhouse|every spring|in dry soil",
    "the pilot|an air traffic controller|the flight crew|a tired passenger & watches|delays|boards|describes & the "
    "landing|flight 281 to Oslo|the small aircraft|a bumpy approach & over the runway|at gate B7|in heavy fog|at dawn",
    "the surgeon|a young nurse|our family doctor|the patient & treats|examines|worries about|records & the broken "
    "wrist|a high fever|two new vaccines|his blood pressure & at the hospital|after midnight|during surgery|on ward 4",
    "the central bank|an investor|the finance minister|our accountant & raises|cuts|forecasts|audits & interest rates|"
    "the tax of 19%|quarterly profits|a loan of $2,500 & despite inflation|in March 2024|for the shareholders|again",
    "the chef|my grandmother|a hungry student|the baker & fries|seasons|kneads|tastes & the onion soup|fresh bread|"
    "a pan of mushrooms|the lamb stew & with garlic|for 45 minutes|in olive oil|on low heat",
    "the goalkeeper|our coach|a substitute player|the home team & saves|practises|loses|celebrates & the penalty kick|"
    "a 3-1 victory|the cup final|a corner in extra time & at the stadium|before the whistle|without a defender|twice",
    "the programmer|a junior developer|our compiler|the build server & debugs|rewrites|tests|deploys & the parser|"
    "a memory leak|version 4.2.1|the web application & on Linux|after the code review|in C++ and Python|by hand",
    "the astronomer|a space probe|the telescope|NASA & observes|photographs|measures|orbits & a distant galaxy|"
    "the rings of Saturn|two dwarf planets|the Moon & through thin clouds|in 1977|at infrared wavelengths|each winter",
    "the violinist|a jazz trio|the conductor|the choir & rehearses|plays|records|hums & a slow sonata|the second "
    "movement|an old folk song|Symphony No. 5 & in D minor|at the concert hall|without sheet music|on stage",
    "the judge|a defence lawyer|the jury|the witness & hears|rejects|signs|recalls & the appeal|a written contract|"
    "the evidence (exhibit A)|three charges & in court|under oath|against the tenant|by law",
    "the sailor|a marine biologist|the captain|the ferry & catches|counts|steers past|films & a grey whale|the coral "
    "reef|silver herring|the lighthouse & off the coast|at high tide|in rough water|near 60 degrees north",
    "the teacher|a curious pupil|the school library|the headmaster & explains|copies|buys|grades & the geometry lesson|"
    "a history book|the spelling test|homework for class 7b & on the blackboard|before the exam|in the classroom|alone",
)
TABLE = [[part.strip().split("|") for part in topic.split(" & ")] for topic in TOPICS]


def sentence(number: int) -> tuple[str, int]:
    """A sentence and its topic; the same for the same number."""
    rng = np.random.default_rng((7, number))
    topic = number % len(TABLE)
    who, does, what, where = (str(rng.choice(words)) for words in TABLE[topic])
    text = f"{who} {does} {what} {where}" if rng.random() < 0.75 else f"{where}, {who} {does} {what}"
    return text[0].upper() + text[1:] + ".", topic


def paragraph(number: int, count: int = 6) -> str:
    """Several sentences in lines."""
    return "\n".join(sentence(number * count + i)[0] for i in range(count))
