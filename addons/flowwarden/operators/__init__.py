"""What people and agents can ask of the gateway itself: the operators' listener and flowwarden.internal."""
