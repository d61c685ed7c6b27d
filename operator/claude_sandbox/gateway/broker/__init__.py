"""The broker: requests for the model, with the real credential put in. All that knows the provider's API is here."""
