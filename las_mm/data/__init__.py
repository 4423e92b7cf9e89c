"""Data on their way in: broken images and annotations are named, missing data sets explained."""
