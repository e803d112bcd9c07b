"""One module a wire format, each a `clients.base.Provider`: pure functions over kwargs, responses and stream events."""
