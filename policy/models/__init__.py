"""Networks: the policy, its critics and what is saved of them."""
