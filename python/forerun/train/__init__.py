"""Training of drafts, in PyTorch: `pip install forerun[train]`.

It uses the runtime (the target answers and is looked into by it) and writes draft files for it; the runtime never
imports this package. The steps, each a module and a command of `forerun train`:

    prompts, text  what the target is to answer or to read
    answers        the target's own answers, by the runtime
    collect        features and top-k logits of the quantised target at every token, in shards
    data           shards as training batches: the shift, the masks
    models, losses, unroll, optimise     the draft and its training
    evaluate       acceptance by depth, simulated tau
    export         the draft file
"""
