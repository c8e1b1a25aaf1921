"""Phrases that say how a text means its mentions, for `kg.assertion`; in lower case, parted by `|`.

A phrase matches word by word; `'s` and hyphens belong to their word.
"""

# Phrases that stand before what they speak of.
BEFORE = {
    "negated": """
        no | not | without | denies | denied | denying | deny | negative for | never had | never has had | never |
        no evidence of | no evidence for | no sign of | no signs of | no clinical evidence of | no history of |
        no known | no prior | no previous | no complaints of | no complaint of | no indication of | no suggestion of |
        no findings of | no abnormal | no new | no other | no further | no longer has | no longer | absence of |
        absent | lack of | lacks | lacked | lacking | free of | free from | clear of | rules out | ruled out |
        ruled out for | rule him out for | rule her out for | is ruled out for | fails to show | failed to show |
        failed to demonstrate | fails to demonstrate | fails to reveal | failed to reveal | did not reveal |
        did not show | does not show | do not show | did not have | does not have | do not have | doesn't have |
        didn't have | don't have | has not had | have not had | had not had | hasn't had | haven't had | hadn't had |
        did not develop | does not appear to have | did not exhibit | does not exhibit | did not experience |
        has not experienced | haven't experienced | not have | not had | not having | not experiencing | not show |
        not reveal | not associated with | not known to have | not demonstrate | did not demonstrate |
        does not demonstrate | cannot see | can't see | unremarkable for | neither | nor | instead of | rather than |
        unaffected by | none of | zero | nil | exclude | excludes | excluded | excluding | no cause of |
        nonspecific for | didn't notice any | haven't noticed any | don't notice any | no one with | doesn't |
        didn't | don't | isn't | wasn't | aren't | weren't | hasn't | haven't | hadn't | cannot have | spared from |
        no abnormality of | without evidence of | without any | without signs of | not present | unlikely to have |
        no reported | no documented | not reported | no patient had | no patients had | none of the patients had |
        in no patient | have not noted | has not noted | had not noted | have not noticed | has not noticed |
        had not noticed | have not seen | has not seen | had not seen | have not observed | has not observed |
        did not note | did not notice | negative as far as | never before had | not since had |
        has not since had | have not since had
    """,
    "possible": """
        possible | possibly | probable | probably | likely | may have | might have | may be | might be | could be |
        could have | suspected | suspect | suspects | suspicion of | possibility of | probably has | likely has |
        possibly has | suspicious for | suspicion for | suggestive of | suggesting | suggests | suggest | suggested |
        questionable | question of | ? | concern for | concerning for | concerns for | concern of | presumed |
        presumptive | presumably | consider | considered to be | considering | rule out | r/o | to rule out |
        differential diagnosis includes | differential diagnosis of | differential includes | differential diagnosis |
        differential | versus | vs | appears to have | appears to be | seems to have | worrisome for |
        compatible with | cannot exclude | cannot rule out | can't rule out | not ruled out | could not rule out |
        could not be excluded for | not excluded | tentative | potential | perhaps | maybe | equivocal for |
        borderline | indeterminate for | no definite | not certain if | not sure if | unclear if | unclear whether |
        uncertain whether | uncertain if | evaluate for | evaluated for | evaluation for | assess for | assessed for |
        test for | tested for | screen for | screened for | workup for | work-up for | look for | looking for |
        i think | we think | you may have | can't exclude | unable to exclude
    """,
    "hypothetical": """
        if | in case of | in the event of | in case | should he develop | should she develop | should you develop |
        should there be | should any | return for | return if | call for | call if | come back if | come back for |
        watch for | monitor for | monitored for | monitoring for | look out for | as needed for | prn for |
        prophylaxis for | prophylaxis against | prophylactic | prevention of | prevent | prevents | preventing |
        risk of | risks of | risk for | at risk for | at risk of | increased risk of | high risk of | high risk for |
        risk factors for | risk factor for | prone to | susceptible to | susceptibility to | predisposed to |
        predisposes to | to avoid | avoid | fear of | afraid of | worried about | worry about | can cause |
        may cause | might cause | could cause | can lead to | could lead to | may lead to | may develop |
        might develop | could develop | would develop | until | unless | precautions | precaution for | vaccine for |
        vaccination against | vaccinated against | immunization against | whether or not
    """,
    "historical": """
        history of | past history of | prior history of | medical history of | past medical history of |
        past medical history | past medical history significant for | past medical history includes |
        previous history of | remote history of | hx of | h/o | pmh of | pmhx | previous | previously had |
        previously | prior | past | formerly | status post | s/p | had had | used to have | as a child |
        in childhood | as a teenager | in the past | remote | resolution of | treated in the past for | years ago |
        months ago | history significant for | history remarkable for | history includes | earlier episodes of |
        previously diagnosed with | was once diagnosed with
    """,
    "family": """
        family history of | family history positive for | family history significant for |
        family history remarkable for | family history includes | family history | fh of | fhx of | fh | fhx |
        family hx of | mother | mother's | father | father's | parents | brother | brother's | brothers | sister |
        sister's | sisters | sibling | siblings | sibs | grandmother | grandfather | grandparents | grandma |
        grandpa | aunt | uncle | aunts | uncles | cousin | cousins | nephew | niece | mom | dad | mum | mom's |
        dad's | maternal | paternal | relative | relatives | relatives with | family members | family member |
        in the family | half-brother | half-sister | great-grandmother | great-grandfather
    """,
}

# Phrases that stand after what they speak of.
AFTER = {
    "negated": """
        is absent | are absent | was absent | were absent | absent | is ruled out | are ruled out | was ruled out |
        were ruled out | has been ruled out | have been ruled out | ruled out | is excluded | was excluded |
        were excluded | are excluded | has been excluded | have been excluded | is negative | was negative |
        were negative | are negative | negative | not seen | not present | not found | not detected | not identified |
        not observed | not noted | not evident | not demonstrated | is not seen | was not seen | were not seen |
        was not found | were not found | was not present | were not present | is not present | was not observed |
        were not observed | was not detected | were not detected | was not noted | were not noted | is unlikely |
        was unlikely | unlikely | denied | is denied | are denied | was denied | none | is lacking | was lacking |
        were lacking | could not be found | could not be detected | has disappeared
    """,
    "possible": """
        is possible | was possible | are possible | possible | is suspected | was suspected | were suspected |
        are suspected | suspected | is likely | was likely | is probable | is questionable | questionable |
        cannot be excluded | cannot be ruled out | can't be ruled out | can't be excluded | could not be ruled out |
        could not be excluded | not ruled out | not excluded | has not been ruled out | have not been ruled out |
        has not been excluded | is considered | was considered | were considered | should be considered |
        must be considered | may be present | might be present | could be present | is a possibility |
        remains possible | is in the differential | is not certain | is uncertain | is equivocal | was equivocal | ?
    """,
    "hypothetical": """
        should be avoided | precautions | prophylaxis | prevention | risk | should occur | should develop |
        should it occur | were to occur | vaccine | vaccination | screening
    """,
    "historical": """
        years ago | year ago | months ago | weeks ago | in the past | in childhood | as a child | in infancy |
        in early childhood | when she was a child | when he was a child | when i was a child | when i was a kid |
        as a kid | in his youth | in her youth | last year | resolved | has resolved | have resolved | had resolved
    """,
    "family": """
        in the family | in his family | in her family | in my family | in their family | in the mother |
        in the father | in his mother | in her mother | in his father | in her father | in my mother | in my father |
        in a brother | in a sister | in his brother | in her brother | in his sister | in her sister | in a sibling |
        in siblings | in relatives | in family members | runs in the family | runs in my family | run in the family |
        on my mother's side | on my father's side | on his mother's side | on her mother's side |
        on his father's side | on her father's side | on the maternal side | on the paternal side
    """,
}

# Phrases that end a scope in both directions, by the assertions whose scope they end. "Her mother had", "if she has".
ENDS = {
    "family historical hypothetical negated possible": """
        but | however | nevertheless | nonetheless | yet | though | although | except | except for | except that |
        apart from | aside from | other than | besides | while | whereas | because | secondary to | due to |
        caused by | cause of | causes of | cause for | reason for | as a cause of | with the exception of |
        therefore | thus | ; | is positive for | was positive for | positive for | in contrast | instead |
        resulting in | resulted in | results in | leading to | led to
    """,
    "family historical negated possible": """
        complains of | complaining of | complained of | reports | reported | states | stated | admits to | admits |
        endorses | endorsed | and takes | and will | and is taking | and is on | and was started on | he | she |
        patient | the patient | i | i'm | i've | i'd | on examination | on exam
    """,
    "historical negated possible": """
        has | had | developed | develops | presents with | presented with | presenting with | presents | presented |
        shows | showed | revealed | reveals | demonstrated | and has | and had | and is | and was | which | who |
        whose | associated with | then | so that
    """,
    "negated possible": """
        after | during | since | despite | following | prior to | in spite of
    """,
    "negated": """
        relief of | relief from | relieving | relieve | alleviating | alleviate | decreasing | decrease | reducing |
        reduce | controlling | control | improving | helpful in | helpful for | helpful with | effective in |
        effective for | effective against | effectiveness in | satisfied with
    """,
    "family": """
        noticed | notices | notice | noted | notes | denies | denied | deny | stating | describes | described |
        desired | says | said | say | thinks | think | believes | concerned | brings | brought | feels | felt | wants |
        wanted | asks | asked | for evaluation | for followup | for follow-up | for follow up
    """,
    "historical": """
        now | current | currently | presently | today | at present | admitted | referred | comes | came | is here |
        here for | here with
    """,
}

# Phrases that look like triggers, or like ends, and say nothing.
PSEUDO = """
    no increase | no increased | no change | no changes | no significant change | no interval change |
    no significant interval change | no further change | no worsening of | no improvement in | no improvement |
    no doubt | no difference | no differences | no significant difference | no significant differences | not only |
    not just | not necessarily | not cause | not drain | not certain whether | gram negative | gram-negative |
    not extend | not limited to | not merely | not responding to | not responsive to | not respond to | not improve |
    not improved | not improving | not resolve | not controlled | not always | not uncommon | not unusual |
    not infrequently | not rare | no matter | no other than | without difficulty | without further | without help |
    without treatment | without response | without benefit | without success | did not help | does not help |
    not helped | doesn't help | negative pressure | negative affect | negative symptoms | absence epilepsy |
    absence seizure | absence seizures | no later than | no treatment for | no treatment of | no one | no cause |
    history and physical | history of present illness | history taking | history form | social history | history is |
    family practice | family doctor | family physician | family medicine | family planning | family therapy |
    by history | clinical history | as if | even if | if not | free fluid | free air | prior to | past due |
    year old | years old | month old | months old | years of age | not sure | more likely | likely to respond |
    mother tongue | mother of | father of | in spite of | possible to | as possible | whenever possible |
    loss of control | if possible | when possible | where possible | may be used | could be used | can be used |
    risk assessment
"""

# Relatives who come along, or who tell: "seen with his mother for a cough".
PSEUDO += "".join(
    f"| {beside} {whose}{relative} "
    for beside in ("with", "by", "per", "from")
    for whose in ("", "his ", "her ", "my ", "their ", "the ")
    for relative in ("mother", "father", "parents", "mom", "dad", "brother", "sister", "grandmother")
)

# A stretch of time up to now: "knee pain in the past three months".
PSEUDO += "".join(
    f"| {before} {time} "
    for before in ("past", "the past", "in the past", "over the past", "for the past")
    for time in (
        "few several couple hour day week month year hours days weeks months years one two three four five six seven "
        "eight nine ten eleven twelve 24 48 72 1 2 3 4 5 6 7 8 9 10 11 12"
    ).split()
)

# Headings of sections, and what they say of what stands below them.
HEADINGS = {
    "family history": "family",
    "family hx": "family",
    "fh": "family",
    "fhx": "family",
    "fam hx": "family",
    "past medical history": "historical",
    "past history": "historical",
    "medical history": "historical",
    "past surgical history": "historical",
    "past medical/surgical history": "historical",
    "pmh": "historical",
    "pmhx": "historical",
    "psh": "historical",
    "prior medical history": "historical",
    "previous medical history": "historical",
    "history of past illness": "historical",
    "risk factors": "hypothetical",
    "rule out": "possible",
    "differential diagnosis": "possible",
    "return precautions": "hypothetical",
}
