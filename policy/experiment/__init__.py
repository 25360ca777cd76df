"""`holdfast experiment`: how much each part of the loop is worth, over many robots that differ."""
