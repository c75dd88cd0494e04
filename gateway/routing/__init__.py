"""How requests are routed: what is known of a prompt, what a policy makes of it, and where the line is."""
