//! The codes of diagnostics that are no guards, for `runbook explain`. A code is stable: scripts read it.

/// Code, what it means, why it is a mistake. Sorted.
pub(super) const CODES: &[(&str, &str, &str)] = &[
    (
        "bad-duration",
        "A duration is a number with a unit, or a sum of such.",
        "`90` could be seconds or minutes; guessing wrong by a factor of sixty is not a small mistake.",
    ),
    (
        "bad-input",
        "A value given for an input does not have its type, or is not one of the allowed.",
        "The run would fail later, in the middle of the work.",
    ),
    (
        "bad-name",
        "A name is made of the letters that its kind allows.",
        "Ids become file names, journal keys and names in templates.",
    ),
    (
        "bad-secret",
        "An entry of `secrets` does not say in one way where the value comes from.",
        "A secret comes from an environment variable, a file or a command.",
    ),
    (
        "bad-template",
        "A text of an environment's file holds a template that it cannot have.",
        "Only `{{ secrets.NAME }}` and `{{ vars.NAME }}` are filled in there.",
    ),
    (
        "bad-uses",
        "`uses` is an action's name or the path of a runbook that begins with `./` or `../`.",
        "A step must say what it does.",
    ),
    (
        "bad-value",
        "A value is outside of what its key allows.",
        "It would be refused, or mean something else, at run time.",
    ),
    (
        "braces-in-expression",
        "`if`, `check` and `happened` are expressions already and take no braces.",
        "With braces they would be text, and text is neither true nor false.",
    ),
    (
        "cycle",
        "Steps wait for each other, so none of them could ever start.",
        "The chain shows who needs whom; remove one need or one reference.",
    ),
    ("duplicate-key", "A key is written twice in one map.", "One of the two would be lost without a word."),
    (
        "duplicate-step",
        "Two steps have the same id.",
        "The id is the checkpoint key: a resume could not tell them apart.",
    ),
    (
        "dynamic-reference",
        "A step is referred to by a name that is only known at run time.",
        "What a step needs must be known before anything runs.",
    ),
    ("empty-file", "The file holds nothing.", "An empty runbook would succeed without doing anything."),
    ("empty-steps", "The runbook has no steps.", "An empty runbook would succeed without doing anything."),
    (
        "file-too-large",
        "The file is larger than a runbook may be.",
        "Reading must stay bounded; split it into runbooks that are used as steps.",
    ),
    (
        "later-step",
        "A template reads the output of a step that runs in a later list.",
        "`on_failure` and `finally` start when the lists before them are over.",
    ),
    (
        "literal-secret",
        "A secret stands in an environment's file.",
        "Files are copied, mailed and kept for years; say where the secret comes from instead.",
    ),
    (
        "missing-base",
        "An environment extends one that could not be found.",
        "Half an environment would send a run to the wrong place.",
    ),
    ("missing-field", "A map lacks a field that its type needs.", "The action could not be called."),
    ("missing-input", "An input without a default was given no value.", "The run would have to guess."),
    ("missing-key", "A key that is always needed is not there.", "Nothing sensible can be assumed for it."),
    (
        "missing-parameter",
        "A parameter that the action needs is not given.",
        "`runbook actions NAME` lists them.",
    ),
    (
        "need-across-lists",
        "A step needs one of another list (`steps`, `on_failure`, `finally`).",
        "Each list starts when the one before it is over, so such a need says nothing or can never be met.",
    ),
    (
        "not-on-a-runbook",
        "A key has no meaning on a runbook used as a step.",
        "It belongs on the steps inside, each of which is repeated, limited and undone on its own.",
    ),
    (
        "number-too-large",
        "A number has more digits than can be kept.",
        "It would silently become another number.",
    ),
    (
        "own-output",
        "A step reads its own output before it has one.",
        "Only `postconditions` and `undo` come after the effect.",
    ),
    (
        "probe-writes",
        "A probe uses an action that changes things.",
        "A probe settles a doubt; it must be safe to ask at any time.",
    ),
    ("recursion", "A runbook uses itself, perhaps by way of others.", "It would never end."),
    (
        "secret-computed",
        "An expression works with a secret.",
        "A secret is a reference until a request is built: there is no value to compare, cut or change.",
    ),
    (
        "secret-exposed",
        "A secret would go where its value is shown or stored in the clear.",
        "Chat messages, prompts and journals are read by people who must not have it.",
    ),
    (
        "secret-literal",
        "A secret stands in the file.",
        "Files are copied, mailed and kept for years; the environment says where a secret comes from.",
    ),
    (
        "secret-marker",
        "A text looks like the reference of a secret.",
        "Such a text could be turned into the secret's value.",
    ),
    (
        "template-in-default",
        "The default of an input holds a template.",
        "Defaults are taken as they are, once, when the run starts.",
    ),
    (
        "template-syntax",
        "A template cannot be read, or uses a filter, test or function that is not there.",
        "Templates have no access to files, network or clock, and only bounded filters.",
    ),
    ("too-deep", "Runbooks are used too deep, or too many files are used.", "Reading must stay bounded."),
    ("too-many-inputs", "The runbook has too many inputs.", "Reading must stay bounded."),
    (
        "too-many-mistakes",
        "The file has more mistakes than are shown.",
        "The first ones usually cause the others.",
    ),
    (
        "too-many-steps",
        "The runbook has too many steps.",
        "Reading must stay bounded; `for_each` makes one step of many alike.",
    ),
    ("unknown-action", "No action has this name.", "`runbook actions` lists them."),
    (
        "unknown-approver",
        "A step names an approver who is not one of the environment's.",
        "The environment decides who may approve.",
    ),
    (
        "unknown-connection",
        "The environment has no connection of this name.",
        "`connections` in the environment's file lists them.",
    ),
    (
        "unknown-field",
        "A value has no field of this name.",
        "Types flow: what an action gives is known before it runs.",
    ),
    (
        "unknown-guard",
        "A waiver names a guard that does not exist.",
        "It would set nothing aside, while somebody believes it did.",
    ),
    (
        "unknown-input",
        "The runbook has no input of this name.",
        "A misspelt input would be ignored in silence.",
    ),
    ("unknown-key", "A key that the language does not have.", "A misspelt key would be ignored in silence."),
    (
        "unknown-name",
        "A template uses a name that is not there.",
        "Templates see inputs, steps, env, run, vars, connections, secrets and the item of a `for_each`.",
    ),
    (
        "unknown-parameter",
        "The action has no parameter of this name.",
        "A misspelt parameter would be ignored in silence.",
    ),
    (
        "unknown-secret",
        "The environment has no secret of this name.",
        "`secrets` in the environment's file says where each comes from.",
    ),
    ("unknown-step", "No step has this id.", "A need or reference must mean a step of the same file."),
    (
        "unknown-var",
        "The environment has no variable of this name.",
        "`vars` in the environment's file lists them.",
    ),
    ("unreadable-file", "A file could not be read.", "Paths are relative to the file that uses them."),
    (
        "wrong-type",
        "A value has another type than is wanted.",
        "It would be refused at run time, in the middle of the work.",
    ),
    ("yaml-documents", "The file holds more than one YAML document.", "One file is one runbook."),
    ("yaml-limit", "The file passes a limit of nesting, size or aliases.", "Reading must stay bounded."),
    ("yaml-merge", "Merge keys are not part of YAML 1.2.", "They hide which value counts."),
    (
        "yaml-syntax",
        "The file is not YAML.",
        "The place shown is where reading stopped; the mistake may stand just before it.",
    ),
];
