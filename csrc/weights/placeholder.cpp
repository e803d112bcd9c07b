// The weights room.
