"""Networks that torchvision, timm or a user's own code makes, with parts replaced by swept ones."""
