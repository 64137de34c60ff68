"""What an update needs to know: new events, drift, the gate, erasing."""
