"""An AS-level model of the Internet: propagation, catchment, geography. Pure."""
