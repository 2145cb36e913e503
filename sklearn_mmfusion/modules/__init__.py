"""Pure torch networks: one per modality, no numpy, no scikit-learn, no skorch."""
