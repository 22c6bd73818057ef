"""The HTTP cache: rules, keys, stores. The rules are pure."""
