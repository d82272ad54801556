"""Other methods on the same features, each on a page: what a flow has to be better than.

None of them learns by gradients: each computes statistics of the normal features, or keeps some
of them. All have FastFlow's interface (``detector.detector.Detector``), its protocol and its
tables; ``detector.choices.METHODS`` lists them.
"""
