"""How well the routing policies and the cascades do on public data; nothing that the gateway runs."""
