"""The origins of the laptop network: a small real shop, and two versions of a landing page."""
