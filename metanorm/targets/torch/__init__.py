"""The torch target, which every norm has: modules of plain torch operations."""
