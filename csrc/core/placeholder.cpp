// The core room.
