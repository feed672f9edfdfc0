"""Reports as people read them, and the digest that mails them."""
