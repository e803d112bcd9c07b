// The runtime room.
