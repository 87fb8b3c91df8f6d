"""The methods: data contracts, configuration, and the numerical cores of distillation and retrieval."""
