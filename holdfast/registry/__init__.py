"""What may run on one robot: signatures of bundles, and a folder with slots and receipts."""
