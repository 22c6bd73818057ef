"""A route's rules, asked before anything else is done for a request: pure deciders, and one thin shell."""
