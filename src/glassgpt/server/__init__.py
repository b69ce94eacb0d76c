"""The wire: any client of OpenAI's or Anthropic's API, answered by the models on this machine."""
