"""A local web page that shows metrics, their unit balls and what they make of an image: ``python -m metricconv_mm.explore``.

``pictures``, ``controls``, ``fields``, ``model``, ``views`` and ``filters`` compute, without a browser; ``workshop`` keeps what may be asked for
again, and ``turns`` says who is next; ``figures``, ``page`` and ``app`` show it, with Dash.
"""
