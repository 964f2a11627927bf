"""A study: arms that differ in their arithmetic, trained on one data set and priced on machines."""
