"""The CustomResourceDefinitions and the reference pages, generated from the models. Nothing else may import this."""
